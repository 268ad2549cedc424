#!/bin/bash
# One training with torchrun. On a single machine:
#
#     DEVICES=4 examples/cluster/torchrun.sh --config demo --output runs/demo
#
# On several, start the same line on each of them, with the address of the first:
#
#     NODES=2 FIRST=10.0.0.1:29500 DEVICES=4 examples/cluster/torchrun.sh --config demo --output runs/demo
#
# Start it again, and it goes on from the last checkpoint.
set -e
exec torchrun --nnodes "${NODES:-1}" --nproc-per-node "${DEVICES:-1}" --max-restarts 0 \
    --rdzv-backend c10d --rdzv-endpoint "${FIRST:-localhost:0}" --rdzv-id "${JOB:-rankdet}" \
    --module rankdet train "$@" \
    --trainer.num_nodes "${NODES:-1}" --trainer.devices "${DEVICES:-1}" --trainer.strategy ddp --resume auto
