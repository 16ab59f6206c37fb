#!/usr/bin/env bash
# Searches a merge of the embedded zoo's three experts, reports it, and exports the winner. Minutes on two cores.
source "$(dirname "$0")/setup.sh"
RUN=${1:-outputs/demo}
evomerge search parents=pico run="$RUN" threads=2
[ -e "$RUN/model" ] || evomerge export "$RUN" --to "$RUN/model"
echo
echo "report:  $RUN/report.md"
echo "model:   $RUN/model"
echo "extend:  .venv/bin/evomerge resume $RUN budget.evaluations=200"
