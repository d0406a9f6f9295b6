#!/usr/bin/env python3
"""Checks that what a page quotes from an example is in it: quoted.py ROOT PAGE

A block after a line <!-- examples/NAME.c --> must be found in that file, byte for byte.
"""
import os, re, sys

root, page = sys.argv[1:]
text = open(os.path.join(root, page)).read()
quotes = re.findall(r"<!-- (examples/[a-z_]+\.c) -->\n```c\n(.*?)```", text, re.S)
missing = [q for q in quotes if q[1] not in open(os.path.join(root, q[0])).read()]
for path, code in missing:
    print("%s: this is not in %s:\n%s" % (page, path, code))
links = [l for l in re.findall(r"\]\(([^)#:]+)\)", text)
         if not os.path.exists(os.path.join(root, os.path.dirname(page), l))]
for l in links:
    print("%s: there is no %s" % (page, l))
print("%d quotes, %d missing; %d broken links" % (len(quotes), len(missing), len(links)))
sys.exit(1 if missing or links or len(quotes) != text.count("<!-- examples/") or not quotes else 0)
