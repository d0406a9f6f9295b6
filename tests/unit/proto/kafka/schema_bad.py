#!/usr/bin/env python3
"""The maker of the Kafka codec refuses schemas that make no sense, and says where. Prints 'N passed, N failed'."""
import os
import subprocess
import sys
import tempfile

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), *[".."] * 4))
GEN = os.path.join(ROOT, "src", "proto", "kafka", "gen.py")

GOOD = """# Good. Not in use.
api 1 Foo advertised=0+

request 1-3 flexible=2+
  name   string      2+ null=3+ default=null ignorable
  times  []int64
  things []thing
    id    uuid
    inner inner 3 null default=null
      port uint16 default=9092
    again inner 3 null default=null
  extra  int32       2+ tag=0 default=-1
"""
# What is replaced in GOOD, by what, and a part of what is said.
BAD = [
    ("api 1 Foo", "aip 1 Foo", "bad.msg:2: unknown word"),
    ("api 1 Foo", "api one Foo", "bad.msg:2:"),
    ("api 1 Foo advertised=0+", "", "bad.msg:4: unknown word"),
    ("request 1-3", "request 3-1", "bad.msg:4: versions out of range"),
    ("request 1-3", "request -3", "bad.msg:4: not versions"),
    ("flexible=2+", "flexible=4+", "bad.msg:4: versions out of range"),
    ("name   string", "Name string", "bad.msg:5: not a name"),
    ("name   string", "int string", "bad.msg:5: not a name"),
    ("string      2+", "string 2-4", "bad.msg:5: versions out of range"),
    ("ignorable", "ignored", "bad.msg:5: unknown word"),
    ("default=null ignorable", "default=x ignorable", "no such default"),
    ("null=3+ default=null ", "default=null ", "is never null"),
    ("  times", "  name", "bad.msg:6: name: twice"),
    ("[]int64", "[]int65", "unknown type int65"),
    ("[]int64", "[]bytes", "no arrays of bytes"),
    ("    id    uuid", "    id thing", "thing contains itself"),
    ("    id    uuid", "      id uuid", "bad.msg:8: belongs to nothing"),
    ("    id    uuid", "   id uuid", "bad.msg:8: belongs to nothing"),
    ("    again inner", "    again inner2", "unknown type inner2"),
    ("inner inner 3 null default=null", "inner inner 2+ null=3 default=null", "all of its versions"),
    ("default=9092", "default=many", "invalid literal"),
    ("2+ tag=0", "tag=0", "cannot be tagged"),
    ("  extra  int32       2+ tag=0", "  other int8 2+ tag=0\n  extra int32 2+ tag=0", "a tag twice"),
    ("  times  []int64", "    times []int64", "defined twice"),
    ("times  []int64", "times []int64 piecewise", "cannot be piecewise"),
    ("things []thing", "things []thing 2+ piecewise", "cannot be piecewise"),
]


def run(folder, text):
    path = os.path.join(folder, "bad.msg")
    with open(path, "w") as f:
        f.write(text)
    return subprocess.run([sys.executable, GEN, folder, path], capture_output=True, text=True)


def main():
    passed = failed = 0
    with tempfile.TemporaryDirectory() as folder:
        r = run(folder, GOOD)
        if r.returncode == 0 and os.path.exists(os.path.join(folder, "kafka_messages.c")):
            passed += 1
        else:
            failed += 1
            print("the good schema is refused: " + r.stderr)
        for old, new, said in BAD:
            r = run(folder, GOOD.replace(old, new, 1))
            if old in GOOD and r.returncode != 0 and said in r.stderr and "Traceback" not in r.stderr:
                passed += 1
            else:
                failed += 1
                print("%s instead of %s: %s" % (new, old, r.stderr or "is taken"))
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
