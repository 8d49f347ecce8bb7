"""The Pulumi program under mocks, and its dynamic providers against a real API server."""
