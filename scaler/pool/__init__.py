"""What is made of one pool: its demand, the decision, who leaves, its status. Pure; start at
`scaler.pool.pool`."""
