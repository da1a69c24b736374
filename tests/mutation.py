"""How many small breaks of `daemon/domain` its tests notice: `make mutation`, minutes of work, so a slow target.

mutmut copies the code into `mutants/`, breaks one expression at a time and runs the tests that reach it. This script
gives it a time to be done in, prints the score per module and fails below the floor.
"""

import subprocess
import sys
from argparse import ArgumentParser
from collections import Counter, defaultdict
from pathlib import Path
from shutil import rmtree

MUTMUT = Path(sys.executable).with_name("mutmut")
CAUGHT = {"killed", "timeout", "suspicious", "segfault"}
LEFT_OUT = {"not checked", "skipped", "check was interrupted by user"}


def main() -> int:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=15, help="when to stop breaking and count")
    parser.add_argument("--floor", type=float, default=0, help="least per cent of the breaks tried to be noticed")
    options = parser.parse_args()
    rmtree("mutants", ignore_errors=True)
    log = Path("mutation.log")
    with log.open("w") as output:
        run = subprocess.Popen([MUTMUT, "run"], stdout=output, stderr=subprocess.STDOUT)
        try:
            code = run.wait(options.minutes * 60)
        except subprocess.TimeoutExpired:
            run.terminate()
            code = run.wait()
            print(f"stopped after {options.minutes:g} minutes")
    listed = subprocess.run([MUTMUT, "results", "--all", "true"], capture_output=True, text=True, check=True).stdout
    verdicts = dict(line.strip().rsplit(": ", 1) for line in listed.splitlines() if ": " in line)
    if not any(verdict not in LEFT_OUT for verdict in verdicts.values()):
        print(log.read_text()[-3000:], f"mutation: mutmut checked nothing, exit {code}", sep="\n")
        return 1
    log.unlink()
    return report(verdicts, options.floor)


def report(verdicts: dict[str, str], floor: float) -> int:
    """Print the score per module and over all, and where to find what nobody noticed."""
    modules: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for mutant, verdict in verdicts.items():
        modules[mutant.rsplit(".", 1)[0]][verdict] += 1
    for module, counts in sorted(modules.items()):
        print(f"  {module:28} {score(counts):6.1f} %  {dict(counts)}")
    missed = [mutant for mutant, verdict in verdicts.items() if verdict not in CAUGHT | LEFT_OUT]
    Path("mutants/survivors.txt").write_text("\n".join(missed))
    total = Counter(verdicts.values())
    checked = sum(count for verdict, count in total.items() if verdict not in LEFT_OUT)
    print(
        f"mutation: {score(total):.1f} % of {checked} breaks noticed, {len(verdicts) - checked} not tried;"
        " the others: mutants/survivors.txt, and `mutmut show NAME`"
    )
    return int(score(total) < floor)


def score(counts: Counter[str]) -> float:
    """Per cent of the breaks tried that a test noticed."""
    tried = sum(count for verdict, count in counts.items() if verdict not in LEFT_OUT)
    return 100 * sum(counts[verdict] for verdict in CAUGHT) / tried if tried else 0.0


if __name__ == "__main__":
    sys.exit(main())
