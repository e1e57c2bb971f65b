"""Check a wheel as a person who installs it: in a fresh environment, in an empty folder, without the repository.

    python tools/check_wheel.py dist/crossatnet-0.1.0-py3-none-any.whl

Makes an environment, installs the wheel by the constraints, indexes pictures that it draws itself, and searches by a
drawing. `make wheel` runs it.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"
DRAW = """
from PIL import Image, ImageDraw
for name, box in (("square", (40, 40, 200, 200)), ("line", (40, 110, 200, 120)), ("corner", (0, 0, 90, 90))):
    photo = Image.new("RGB", (240, 240), "white")
    ImageDraw.Draw(photo).rectangle(box, fill="navy")
    photo.save(f"pictures/{name}.jpg")
drawing = Image.new("L", (240, 240), 255)
ImageDraw.Draw(drawing).rectangle((40, 40, 200, 200), outline=0, width=4)
drawing.save("drawing.png")
"""


def main() -> None:
    wheel = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        run(folder, sys.executable, "-m", "venv", "fresh")
        python, crossatnet = (str(Path(folder, "fresh", "bin", name)) for name in ("python", "crossatnet"))
        run(folder, python, "-m", "pip", "install", "--quiet", "-c", str(CONSTRAINTS), str(wheel))
        where = run(folder, python, "-c", "import crossatnet; print(crossatnet.__file__)")
        if not where.startswith(str(Path(folder).resolve())):
            raise SystemExit(f"the wheel is not what was imported, but {where}")
        if run(folder, python, "-c", "import importlib.util as u; print(u.find_spec('torch'))").strip() != "None":
            raise SystemExit("the base installation brought torch")
        Path(folder, "pictures").mkdir()
        run(folder, python, "-c", DRAW)
        guide = run(folder, crossatnet)
        indexed = run(folder, crossatnet, "index", "pictures", "-o", "my.gallery", "--quiet")
        found = run(folder, crossatnet, "search", "my.gallery", "drawing.png")
        run(folder, crossatnet, "doctor")
        if "crossatnet index" not in guide or "3 pictures (3 added" not in indexed or len(found.splitlines()) != 3:
            raise SystemExit(f"the wheel does not do its work:\n{guide}\n{indexed}\n{found}")
    print(f"{wheel.name}: installed alone, indexes and searches")


def run(folder: str, *command: str) -> str:
    """A command's output, run in `folder` without this project's paths."""
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "CROSSATNET", "VIRTUAL"))
    }
    done = subprocess.run(command, cwd=folder, env=clean, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
