"""What the tests need from the machine, checked before anything else runs. It needs no package itself.

``python tests/needs.py`` prints one line for each thing that is missing, with the command that installs it,
and exits with status 1.
"""

import os
import shutil
import sys

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM_ON_MACOS = (
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)


def find_chromium() -> str | None:
    """Return the path of a Chromium, or None. ``$CHROMIUM``, where it is set, is the only place looked at."""
    asked = os.environ.get("CHROMIUM")
    names = (asked,) if asked else (*CHROMIUM_NAMES, *CHROMIUM_ON_MACOS)
    return next((path for path in map(shutil.which, names) if path), None)


def how_to_install(package: str, cask: bool = False) -> str:
    """Return the command that installs ``package`` on this kind of machine."""
    if sys.platform == "darwin":
        return f"brew install {'--cask ' if cask else ''}{package}"
    return f"sudo apt-get install {package}"


def missing() -> list[str]:
    """Return one line for each thing that is not here."""
    lines = []
    if not shutil.which("git"):
        lines.append(f"git is missing; install it: {how_to_install('git')}")
    if not find_chromium():
        asked = os.environ.get("CHROMIUM")
        what = f"CHROMIUM={asked} is not a program" if asked else "Chromium is missing"
        lines.append(
            f"{what}; install it: {how_to_install('chromium', cask=True)}"
            " (or set CHROMIUM to the path of a Chromium or Chrome)"
        )
    return lines


def main() -> int:
    """Print what is missing; return the exit status."""
    lines = missing()
    for line in lines:
        print(f"make test needs: {line}", file=sys.stderr)
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
