"""What the cluster agrees on: databases, schemas, files, flush marks, leases, tokens. Start reading at `fsm`."""
