"""What a stack consists of, one component per file; `infra.program` composes them."""
