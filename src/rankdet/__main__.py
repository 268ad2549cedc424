"""``python -m rankdet`` is ``rankdet``."""

from rankdet.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
