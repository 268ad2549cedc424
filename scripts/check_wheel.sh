#!/bin/sh
# Build the package into dist/ and try it as a user would: in an empty environment, far from the sources.
# Takes some 6 GB under TMPDIR while it runs.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT INT TERM

"$python" -m venv "$folder/tools"
"$folder/tools/bin/pip" install --quiet --upgrade build twine
rm -rf dist
"$folder/tools/bin/python" -m build # the wheel is built from the sdist, so neither can lack anything
"$folder/tools/bin/twine" check --strict dist/*

"$python" -m venv "$folder/empty"
wheel=$(echo "$PWD"/dist/*.whl)
"$folder/empty/bin/pip" install --quiet "$wheel"
cd "$folder"
PATH=$folder/empty/bin:$PATH
unset PYTHONPATH

# The core, which has no torch.
python - << 'EOF'
import json
from importlib.util import find_spec

from rankdet.data import Shapes

assert find_spec("torch") is None
file = Shapes(length=8, seed=0, image_size=64).export("val")
found = [entry | {"score": 0.5} for entry in json.loads(file.read_text())["annotations"]]
with open("found.json", "w") as results:
    json.dump(found, results)
EOF
rankdet check val --images
rankdet data convert val --to yolo --output yolo
rankdet eval --results found.json --annotations val/annotations.json
rankdet calibrate --results found.json --annotations val/annotations.json --output calibrated.json
rankdet report found.json --annotations val/annotations.json --output page.html
test -s page.html

"$folder/empty/bin/pip" install --quiet "$wheel[train]"
rankdet show environment | tee environment.txt
grep -q '(installed)' environment.txt
rankdet show presets > /dev/null
rankdet train --config demo --schedule.epochs 1 --data.train.init_args.length 64 --data.val.init_args.length 16 --output demo
rankdet predict --checkpoint demo/best.ckpt demo/pictures --output out
rankdet report demo
test -s demo/report.html
echo "the wheel works"
