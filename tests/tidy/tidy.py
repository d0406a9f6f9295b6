#!/usr/bin/env python3
"""Checks of the sources that no compiler does. Prints 'N passed, N failed'.

Direction of includes, banned functions (with what to use instead), opening comments, include guards, long
functions (a ratchet that may only go down), leftovers, names that do not belong into a repository. It first
tries itself on bad snippets: a check that finds nothing in them fails.
"""
import os, re, subprocess, sys

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))

# Who may include whom (docs/development.md). Everything may include base.
MAY = {
    "base": set(), "io": set(), "journal": {"io"}, "broker": {"journal", "io"}, "net": {"io"},
    "auth": {"broker", "io"}, "lake": {"broker", "journal", "net", "io"}, "sql": {"lake", "broker", "journal", "io"},
    "rows": {"sql", "net", "io"},
    "table": {"lake", "sql", "broker", "journal", "io"},
    "transform": {"rows", "sql", "broker", "journal", "io"},
    "proto": {"auth", "broker", "journal", "net", "lake", "sql", "rows", "transform", "io"},
    "lib": {"table", "lake", "broker", "journal", "sql", "io"},
    "server": {"auth", "proto", "broker", "journal", "net", "lake", "sql", "table", "transform", "io"},
    "cli": {"auth", "server", "proto", "broker", "journal", "sql", "rows", "transform", "io", "lib"},
}
BANNED = {
    r"\bstrcpy\s*\(": "memcpy or snprintf", r"\bstrcat\s*\(": "buf_append_str", r"\bsprintf\s*\(": "snprintf",
    r"\bstrtok\s*\(": "strtok_r", r"\bgets\s*\(": "fgets", r"\bato[il]l?\s*\(": "strtol", r"\balloca\s*\(": "xmalloc",
    r"\brand\s*\(": "io_random", r"\blocaltime\s*\(": "time_format", r"\bgmtime\s*\(": "gmtime_r or time_format",
}
# Only io (and what faces the machine by its nature) reaches the machine.
RAW = r"\b(open|pread|pwrite|fsync|fdatasync|rename|unlink|clock_gettime|getrandom|pthread_[a-z_]+)\s*\("
RAW_ALLOWED = {"io", "net", "server", "cli", "lake"}
LINES_MAX = 70
WIDTH_MAX = 120


def module(path):
    parts = path.split("/")
    return parts[1] if len(parts) > 2 and parts[0] == "src" else None


def code_only(text):
    """Comments and strings blanked, lines kept."""
    def blank(m):
        return re.sub(r"[^\n]", " ", m.group(0))
    return re.sub(r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", blank, text, flags=re.S)


def check_includes(path, text):
    m = module(path)
    for inc in re.findall(r'^#include "([^"]+)"', text, re.M):
        to = inc.split("/")[0]
        if m and "/" in inc and to != m and to != "base" and to not in MAY.get(m, set()):
            yield "%s includes %s: %s may not know %s" % (path, inc, m, to)
        if m == "proto" and to == "proto" and inc.split("/")[1] != path.split("/")[2]:
            yield "%s includes %s: one protocol does not know another" % (path, inc)
        if inc.endswith("_int.h") and m and to != m:
            yield "%s includes %s, which is private to %s" % (path, inc, to)


def check_banned(path, text):
    code = code_only(text)
    for pattern, instead in BANNED.items():
        for hit in re.finditer(pattern, code):
            yield "%s:%d: %s: use %s" % (path, code[:hit.start()].count("\n") + 1, hit.group(0).strip("( "), instead)
    m = module(path)
    if m and m not in RAW_ALLOWED:
        for hit in re.finditer(RAW, code):
            if not re.search(r"[>.]\s*$|[a-z0-9_]$", code[:hit.start()][-3:]):
                yield "%s:%d: %s: only io reaches the machine" % (path, code[:hit.start()].count("\n") + 1, hit.group(1))


def check_shape(path, text):
    if not text.lstrip().startswith("/*"):
        yield "%s: opens without a comment that says what it is for" % path
    if path.endswith(".h") and "/tbl/" not in path and not re.search(r"^#ifndef WEIR_", text, re.M):
        yield "%s: has no include guard WEIR_…" % path
    for i, line in enumerate(text.split("\n"), 1):
        if len(line) > WIDTH_MAX and "/tbl/" not in path:
            yield "%s:%d: longer than %d columns" % (path, i, WIDTH_MAX)


def check_leftovers(path, text):
    for i, line in enumerate(text.split("\n"), 1):
        if re.search(r"\b(TODO|FIXME|XXX)\b", line):
            yield "%s:%d: leftover" % (path, i)
        if re.search(r"/work/|/root/|/home/[a-z]|registry\.npmjs|pypi\.org|crates\.io|deb\.debian|repo1?\.maven", line):
            yield "%s:%d: a machine's path or a registry's host" % (path, i)


def functions(text):
    """(name, lines) of function bodies: a line '{' at column 0 to the next '}' at column 0."""
    lines = text.split("\n")
    start = None
    for i, line in enumerate(lines):
        if line == "{":
            start = i
        elif line == "}" and start is not None:
            head = " ".join(lines[max(0, start - 6):start])
            names = re.findall(r"([a-z_][a-z0-9_]*)\s*\([^;]*$", head)
            yield (names[0] if names else "?"), i - start - 1
            start = None


def tracked():
    out = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split("\n")
    return [p for p in out if p]


def read(path):
    with open(os.path.join(ROOT, path), errors="replace") as f:
        return f.read()


def ratchet(long_now, problems):
    path = os.path.join(ROOT, "tests", "tidy", "ratchet.txt")
    allowed = int(open(path).read().split()[0]) if os.path.exists(path) else 0
    if long_now > allowed:
        problems.append("%d functions are longer than %d lines; %d are allowed" % (long_now, LINES_MAX, allowed))
    elif long_now < allowed:
        problems.append("only %d long functions are left: put that number into tests/tidy/ratchet.txt" % long_now)


BAD = [
    (check_includes, "src/broker/x.c", '#include "net/conn.h"\n'),
    (check_includes, "src/proto/http/x.c", '#include "proto/kafka/y.h"\n'),
    (check_includes, "src/broker/x.c", '#include "journal/journal_int.h"\n'),
    (check_banned, "src/net/x.c", "void f(void)\n{\n    strcpy(a, b);\n}\n"),
    (check_banned, "src/journal/x.c", "void f(void)\n{\n    fsync(3);\n}\n"),
    (check_shape, "src/net/x.c", "int x;\n"),
    (check_shape, "src/net/x.h", "/* x */\nint x;\n"),
    (check_leftovers, "src/net/x.c", "/* TO" "DO */\n"),
    (check_leftovers, "README.md", "see /wo" "rk/main\n"),
]
GOOD = [(check_banned, "src/net/x.c", '/* strcpy( */ const char *s = "sprintf(";\n'),
        (check_includes, "src/broker/x.c", '#include "journal/journal.h"\n#include "base/buf.h"\n')]


def main():
    passed = failed = 0
    for check, path, text in BAD:
        if list(check(path, text)):
            passed += 1
        else:
            failed += 1
            print("the check itself does not find: %s in %s" % (check.__name__, path))
    for check, path, text in GOOD:
        hits = list(check(path, text))
        passed += not hits
        failed += bool(hits)
        for h in hits:
            print("the check itself errs: " + h)
    long_now = 0
    for path in tracked():
        problems = []
        if path.endswith((".c", ".h")):
            text = read(path)
            if path.startswith(("src/", "include/", "bench/", "fuzz/", "examples/", "tests/")):
                problems += check_includes(path, text)
                if path.startswith("src/"):
                    problems += check_banned(path, text)
                problems += check_shape(path, text)
            if path.startswith("src/"):
                for name, n in functions(text):
                    if n > LINES_MAX:
                        long_now += 1
                        print("note: %s: %s has %d lines" % (path, name, n))
        if path != "tests/tidy/tidy.py" and not path.endswith((".json", ".png", ".yaml")) and "/corpus/" not in path:
            problems += check_leftovers(path, read(path))
        if path.endswith("package-lock.json") and '"resolved"' in read(path):
            problems.append("%s names a registry's host: npm install --omit-lockfile-registry-resolved" % path)
        for p in problems:
            print(p)
        failed += bool(problems)
        passed += not problems
    problems = []
    ratchet(long_now, problems)
    for p in problems:
        print(p)
    failed += bool(problems)
    passed += not problems
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
