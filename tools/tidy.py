#!/usr/bin/env python3
"""Checks what compilers do not: prints `file:line: reason` for every finding and exits 1 when there are any.

Includes against the DEPENDS of each folder; the coroutine rules; clocks, threads and randomness only in their homes;
a README in every folder; headers that nobody includes; unfinished work; names that say nothing; lines at level error that
the reference does not explain; keys of settings in the pages that nobody could write.
"""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
SRC = ROOT / "src"
OUTSIDE_HOME = {
    r"\bstd::thread\b(?!::)": {"async", "event", "spool", "daemon", "peer"},
    r"\bstd::(mutex|scoped_lock|unique_lock|condition_variable)\b": {"async", "net", "event", "spool", "daemon", "peer", "reception"},
    r"\brandom_device\b": set(),
    r"\bdetached\b": set(),
    r"system_clock": {"base"},
    r"this_thread::sleep_for|\busleep\(|[^_a-z]sleep\(": {"event", "cli"},
    r"#include <boost/asio(?!/thread_pool|/post)": {"async", "net", "dns", "drill"},
}
BANNED_NAMES = re.compile(r"\b(?:class|struct)\s+\w*(Manager|Handlers|EventHandler|Helper|Util|Processor)\b")
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX)\b")
FILE_LINES_MAX = 800
findings = []


def report(path, line, reason):
    findings.append(f"{path.relative_to(ROOT)}:{line}: {reason}")


def dependencies():
    """Folder -> the folders that it declares in its CMakeLists.txt."""
    declared = {}
    for cmake in SRC.glob("*/CMakeLists.txt"):
        text = re.sub(r"#.*", "", cmake.read_text())
        match = re.search(r"sluice_library\(\s*(\w+)(.*?)\)", text, re.S)
        if not match:
            report(cmake, 1, "no sluice_library() here")
            continue
        words = match.group(2).split()
        names, test_names, current = set(), set(), None
        for word in words:
            if word in {"DEPENDS", "TEST_DEPENDS", "LIBS", "TEST_LIBS", "PCH"}:
                current = word
            elif current == "DEPENDS":
                names.add(word)
            elif current == "TEST_DEPENDS":
                test_names.add(word)
        declared[cmake.parent.name] = (names, test_names)
    return declared


def check_order(declared):
    order_text = (SRC / "CMakeLists.txt").read_text()
    order = re.search(r"foreach\(folder(.*?)\)", order_text, re.S).group(1).split()
    place = {name: index for index, name in enumerate(order)}
    for folder, (names, _) in declared.items():
        for name in names:
            if place.get(name, 99) >= place.get(folder, -1):
                report(SRC / folder / "CMakeLists.txt", 1, f"depends on {name}, which is not above it")


def check_includes(path, folder, lines, declared):
    names, test_names = declared.get(folder, (set(), set()))
    allowed = names | {folder}
    if path.name.endswith("_test.cc") or path.name.startswith("test_"):
        allowed |= test_names
    # What a dependency depends on may be named too: it is linked, and its types are in the interface.
    reachable, waiting = set(allowed), list(allowed)
    while waiting:
        for name in declared.get(waiting.pop(), (set(), set()))[0]:
            if name not in reachable:
                reachable.add(name)
                waiting.append(name)
    for number, line in enumerate(lines, 1):
        match = re.match(r'#include "(\w+)/', line)
        if match and (SRC / match.group(1)).is_dir() and match.group(1) not in reachable:
            report(path, number, f"includes {match.group(1)}/, which {folder} does not depend on")


def check_coroutines(path, lines):
    for number, line in enumerate(lines, 1):
        code = line.split("//")[0]
        if "co_await" not in code:
            continue
        if code.count("co_await") > 1:
            report(path, number, "more than one co_await in a statement")
        after = code.split("co_await", 1)[1]
        if re.search(r"\[[^\]]*\]\s*\(|\{[^}]", after) and not after.rstrip().endswith("{"):
            report(path, number, "a lambda or braces in a co_await statement")


def check_homes(path, folder, lines):
    if "test" in path.name:
        return
    for number, line in enumerate(lines, 1):
        code = line.split("//")[0]
        for pattern, homes in OUTSIDE_HOME.items():
            if folder not in homes and re.search(pattern, code):
                report(path, number, f"{pattern.strip('#')} outside its home")


def check_text(path, lines):
    for number, line in enumerate(lines, 1):
        if UNFINISHED.search(line):
            report(path, number, "unfinished work")
        if BANNED_NAMES.search(line):
            report(path, number, "a name that says nothing")
    if len(lines) > FILE_LINES_MAX:
        report(path, len(lines), f"more than {FILE_LINES_MAX} lines")


def check_errors_are_explained(path, text, page):
    """Whoever is told that something must be done finds out what."""
    if "test" in path.name:
        return
    for match in re.finditer(r'\blog_?\.error\(\s*"\w+",\s*"([^"]+)"', text):
        if match.group(1) not in page:
            report(path, text.count("\n", 0, match.start()) + 1, f"docs/reference/log.md does not explain `{match.group(1)}`")


def check_plugin_errors_are_explained(path, text, page):
    """The same for what the plugin host says: what differs in a sentence is a word there."""
    for match in re.finditer(r"(?:\.log(?:crit|error)\(|LOG(?:CRIT|ERROR), \[)`([^`]+)`", text):
        fixed = re.split(r"\$\{[^}]*\}", match.group(1))[:-1]  # the last thing in it says why
        fixed[-1] = fixed[-1].rstrip(" (")
        if not re.search("`" + "[A-Za-z ]+".join(map(re.escape, fixed)), page):
            report(path, text.count("\n", 0, match.start()) + 1, f"docs/reference/log.md does not explain `{match.group(1)}`")


def check_headers_are_used(sources):
    included = set()
    for path in sources:
        included.update(re.findall(r'#include "([^"]+)"', path.read_text(errors="replace")))
    for path in SRC.rglob("*.h"):
        if str(path.relative_to(SRC)) not in included:
            report(path, 1, "included by nobody")


def check_settings_in_docs():
    """Pages name settings as people write them: by keys that the parser knows, not by our own names for them."""
    page = ROOT / "docs/reference/settings.md"
    file, known = None, {}
    for line in page.read_text().splitlines():
        if match := re.match(r"## (\S+)", line):
            file = match[1]
            known[file] = set()
        elif match := re.match(r"\| `([^`]+)` \|", line):
            known[file].add(match[1])
    told = set(known).union(*known.values())
    members = set(re.findall(r"\b([a-z]+_\w+)(?=\s*[{=;,])", (SRC / "config/settings.h").read_text())) - told
    in_file = re.compile(r"`(?:\[\w+\] )?(\w+)(?:=[^`]*)?`(?: \([^)]*\))?\s+(?:in|of)\s+(?:`\[\w+\]`\s+(?:in|of)\s+)?`?([\w-]+\.ini)\b")
    of_file = re.compile(r"`?(?P<file>[\w-]+\.ini)`?(?:\s+`?\[\w+\]`?)?\s+`(?P<key>\w+)(?:=[^`]*)?`")
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        text = path.read_text()
        named = [(match.start(), match[2], match[1]) for match in in_file.finditer(text)]
        named += [(match.start(), match["file"], match["key"]) for match in of_file.finditer(text)]
        for at, where, key in named:
            if where in known and key not in known[where]:
                report(path, text.count("\n", 0, at) + 1, f"{where} has no `{key}`")
        for match in re.finditer(r"`(\w+)(?:=[^`]*)?`", text):
            if match[1] in members:
                report(path, text.count("\n", 0, match.start()) + 1, f"`{match[1]}` is a name of src/config/settings.h, not of a setting")


def main():
    declared = dependencies()
    check_order(declared)
    log_page = (ROOT / "docs" / "reference" / "log.md").read_text()
    sources = sorted(p for d in ("src", "fuzz", "bench") for p in (ROOT / d).rglob("*") if p.suffix in {".h", ".cc"})
    for path in sources:
        lines = path.read_text(errors="replace").splitlines()
        check_text(path, lines)
        check_coroutines(path, lines)
        if SRC in path.parents:
            folder = path.relative_to(SRC).parts[0]
            check_includes(path, folder, lines, declared)
            check_homes(path, folder, lines)
            check_errors_are_explained(path, path.read_text(errors="replace"), log_page)
    for path in [ROOT / "plugin-host" / "index.js", *sorted((ROOT / "plugin-host" / "lib").glob("*.js"))]:
        check_plugin_errors_are_explained(path, path.read_text(), log_page)
    for folder in sorted(p for p in SRC.iterdir() if p.is_dir() and any(p.iterdir())):
        if not (folder / "README.md").exists():
            report(folder, 1, "no README.md")
    check_headers_are_used(sources)
    check_settings_in_docs()
    print("\n".join(findings) or f"tidy: {len(sources)} files, nothing found")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
