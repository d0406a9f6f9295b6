#!/usr/bin/env python3
"""Makes the Kafka message codec in C from the schemas in messages/.

    gen.py OUT_DIR SCHEMA...    writes kafka_messages.{h,c} (structs, decode, encode, table of APIs) and
                                kafka_fields.{h,c} (the same layouts as data: tests fill and walk messages by it)

Format of a schema, one file an API. `#` starts a comment. Lines at column 0:

    api KEY NAME [advertised=V+]          opens an API; advertised: ApiVersions says this first version
    request VERSIONS [flexible=V+]        its request and its response; flexible: compact lengths and tagged fields
    response VERSIONS [flexible=V+]       from this version on
    data NAME VERSIONS [flexible=V+]      a message of its own

Indented below, one field a line, in the order of the wire:

    NAME TYPE [VERSIONS] [null[=VERSIONS]] [default=VALUE] [tag=N] [ignorable] [inflexible] [piecewise]

TYPE: bool int8 int16 uint16 int32 int64 float64 string bytes records uuid, the name of a struct, or [] and one of
these. The fields of a struct are indented below one of the fields that use it; the others only name it.
VERSIONS: `3`, `3-7` or `3+`; without them a field is there whenever what surrounds it is.
null: the versions in which it may be null; alone: all. default: where it is not 0, false, empty. tag: a tagged field
(all its versions are flexible). ignorable: left out in silence where the version has no such field, while a value
other than the default is an error without it. inflexible: never compact. piecewise: an array of structs of which some
may have been written before the message is, by the struct's own function; their bytes are put in behind the others.
What makes no sense is refused, with the
line or the message that it is in.
"""
import os
import re
import sys

INTS = {"int8": ("int8_t", "i8", 1), "int16": ("int16_t", "i16", 2), "uint16": ("uint16_t", "u16", 2),
        "int32": ("int32_t", "i32", 4), "int64": ("int64_t", "i64", 8), "bool": ("bool", "bool", 1),
        "float64": ("double", "f64", 8)}
ARRAYS = ("int8", "int16", "int32", "int64")  # that come as arrays of plain numbers
BLOBS = {"string": "struct slice", "bytes": "struct slice", "records": "struct kafka_records"}
KEYWORDS = set("auto break case char const continue default do double else enum extern float for goto if inline int "
               "long register restrict return short signed sizeof static struct switch typedef union unsigned void "
               "volatile while bool true false".split())


class Bad(Exception):
    pass


def snake(name):
    name = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name)
    return re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", name).lower()


def versions(text, last):
    """(first, last) of '3', '3-7' or '3+'."""
    m = re.fullmatch(r"(\d+)(?:(\+)|-(\d+))?", text)
    if not m:
        raise Bad("not versions: " + text)
    lo = int(m.group(1))
    hi = last if m.group(2) else int(m.group(3) or lo)
    if not lo <= hi <= last:
        raise Bad("versions out of range: " + text)
    return lo, hi


class Field:
    def __init__(self, words, message):
        self.name, self.type = words[0], words[1]
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name) or self.name in KEYWORDS:
            raise Bad("not a name: " + self.name)
        self.array = self.type.startswith("[]")
        self.base = self.type[2:] if self.array else self.type
        self.versions, self.null, self.default, self.tag = None, None, None, None
        self.ignorable = self.inflexible = self.piecewise = False
        last = message.versions[1]
        for w in words[2:]:
            key, _, value = w.partition("=")
            if w[0].isdigit():
                self.versions = versions(w, last)
            elif key == "null":
                self.null = versions(value, last) if value else True
            elif key == "default" and value:
                self.default = value
            elif key == "tag":
                self.tag = int(value)
            elif w in ("ignorable", "inflexible", "piecewise"):
                setattr(self, w, True)
            else:
                raise Bad("unknown word: " + w)
        self.versions = self.versions or message.versions
        if self.null is True:
            self.null = self.versions
        self.struct = None  # set by Message.resolve
        self.message = message

    @property
    def simple_array(self):
        return self.array and self.base in ARRAYS

    @property
    def pointer(self):
        """A nullable struct."""
        return self.struct and not self.array and self.null

    @property
    def blob(self):
        return not self.array and self.base in BLOBS

    def ctype(self):
        if self.struct:
            return "struct %s" % self.struct.cname
        if self.base == "uuid":
            return "uint8_t"
        return BLOBS[self.base] if self.base in BLOBS else INTS[self.base][0]

    def literal(self):
        """C value of the default, None if all bits are zero."""
        if self.default == "null" and not self.null:
            raise Bad("%s: is never null" % self.name)
        if self.array or self.struct:
            if self.default not in (None, "null"):
                raise Bad("%s: no such default" % self.name)
            return None
        if self.base in BLOBS:
            if self.default not in (None, "null"):
                raise Bad("%s: no such default" % self.name)
            if self.base == "records" or not self.null or self.default == "null":
                return None
            return "SLICE_LIT(\"\")"
        if self.default is None or self.base == "uuid":
            return None
        if self.base == "bool":
            return {"true": "true", "false": None}[self.default]
        if self.base == "float64":
            return repr(float(self.default))
        v = int(self.default)
        named = {2147483647: "INT32_MAX", -2147483648: "INT32_MIN", 9223372036854775807: "INT64_MAX",
                 -9223372036854775808: "INT64_MIN"}
        return named.get(v, str(v)) if v else None


class Struct:
    def __init__(self, name):
        self.name, self.fields, self.cname, self.context = name, [], None, None
        self.compared = False  # is_default is needed

    def tagged(self):
        return sorted((f for f in self.fields if f.tag is not None), key=lambda f: f.tag)


class Message:
    def __init__(self, name, kind, api, words):
        self.name, self.cname, self.kind, self.api = name, "kafka_" + snake(name), kind, api
        self.versions = versions(words[0], 9999)
        self.flexible = None
        for w in words[1:]:
            key, _, value = w.partition("=")
            if key != "flexible":
                raise Bad("unknown word: " + w)
            self.flexible = versions(value, self.versions[1])[0]
        self.root = Struct(None)
        self.structs = {}
        self.order = []  # inner before outer

    def resolve(self):
        """Binds names to structs, orders them, finds in which versions each can occur."""
        self.root.cname = self.cname
        for s in self.structs.values():
            s.cname = "%s_%s" % (self.cname, s.name)
        self.visit(self.root, self.versions, [])
        for s in self.structs.values():
            if s not in self.order:
                raise Bad("%s is never used" % s.name)

    def visit(self, s, context, path):
        if s in path:
            raise Bad("%s contains itself" % s.name)
        c = s.context
        s.context = (min(c[0], context[0]), max(c[1], context[1])) if c else context
        for f in s.fields:
            inside = (max(f.versions[0], context[0]), min(f.versions[1], context[1]))
            if f.base in INTS or f.base in BLOBS or f.base == "uuid":
                if f.array and f.base not in ARRAYS and f.base != "string":
                    raise Bad("%s: no arrays of %s" % (f.name, f.base))
            elif f.base in self.structs:
                f.struct = self.structs[f.base]
                if inside[0] <= inside[1]:
                    self.visit(f.struct, inside, path + [s])
            else:
                raise Bad("%s: unknown type %s" % (f.name, f.base))
            if f.pointer and f.null != f.versions:
                raise Bad("%s: a struct is nullable in all of its versions or in none" % f.name)
            if f.tag is not None and (self.flexible is None or f.versions[0] < self.flexible or
                                      f.base == "records" or f.pointer):
                raise Bad("%s: cannot be tagged" % f.name)
            if f.piecewise and not (f.array and f.struct and f.versions == self.versions and not f.null and f.tag is None):
                raise Bad("%s: cannot be piecewise" % f.name)
            f.literal()
        tags = [f.tag for f in s.tagged()]
        if len(set(tags)) != len(tags):
            raise Bad("%s: a tag twice" % s.cname)
        if s not in self.order:
            self.order.append(s)

    def is_flexible(self, v):
        return self.flexible is not None and v >= self.flexible

    def size_min(self, s, v):
        n = 1 if self.is_flexible(v) else 0
        for f in s.fields:
            if not f.versions[0] <= v <= f.versions[1] or f.tag is not None:
                continue
            flex = self.is_flexible(v) and not f.inflexible
            if f.array or f.base in ("bytes", "records"):
                n += 1 if flex else 4
            elif f.base == "string":
                n += 1 if flex else 2
            elif f.base == "uuid":
                n += 16
            elif f.struct:
                n += 1 if f.null and f.null[0] <= v <= f.null[1] else self.size_min(f.struct, v)
            else:
                n += INTS[f.base][2]
        return n


class Parser:
    """One schema file, line by line."""

    def __init__(self):
        self.messages, self.api = [], None
        self.open = []  # (indent, struct whose fields are indented further or None so far, field that names it)

    def line(self, text):
        words = text.split("#")[0].split()
        indent = len(text) - len(text.lstrip(" "))
        if words and indent:
            self.field(indent, words)
        elif words:
            self.head(words)

    def head(self, words):
        if words[0] == "api":
            self.api, self.open = {"key": int(words[1]), "name": words[2], "advertised": None}, []
            for w in words[3:]:
                self.api["advertised"] = versions(w.partition("advertised=")[2], 9999)[0]
            return
        if words[0] == "data":
            message = Message(words[1], "data", None, words[2:])
        elif words[0] in ("request", "response") and self.api:
            message = Message(self.api["name"] + words[0].capitalize(), words[0], self.api, words[1:])
        else:
            raise Bad("unknown word: " + words[0])
        self.messages.append(message)
        self.open = [(0, message.root, None)]

    def field(self, indent, words):
        while self.open and self.open[-1][0] >= indent:
            self.open.pop()
        if not self.open or indent != self.open[-1][0] + 2:
            raise Bad("belongs to nothing: mind the indentation")
        message = self.messages[-1]
        field = Field(words, message)
        outer, owner, last = self.open[-1]
        if owner is None:  # first field of a struct
            if last.base in message.structs or last.base in INTS or last.base in BLOBS or last.base == "uuid":
                raise Bad("%s: defined twice" % last.base)
            owner = message.structs[last.base] = Struct(last.base)
            self.open[-1] = (outer, owner, last)
        if any(f.name == field.name for f in owner.fields):
            raise Bad("%s: twice" % field.name)
        owner.fields.append(field)
        self.open.append((indent, None, field))


def parse(path):
    parser = Parser()
    with open(path) as f:
        for number, line in enumerate(f, 1):
            try:
                parser.line(line.rstrip("\n"))
            except (Bad, IndexError, ValueError) as e:
                raise SystemExit("%s:%d: %s" % (path, number, e))
    for m in parser.messages:
        try:
            m.resolve()
        except (Bad, KeyError, ValueError) as e:
            raise SystemExit("%s: %s: %s" % (path, m.name, e))
    return parser.messages


def load(paths):
    messages = []
    for p in sorted(paths):
        messages += parse(p)
    messages.sort(key=lambda m: (m.api["key"] if m.api else -1, m.kind, m.name))
    names = [s.cname for m in messages for s in m.order]
    if len(set(names)) != len(names):
        raise SystemExit("a struct of this name is there twice: %s" % max(names, key=names.count))
    return messages


# ---- C ----

def within(r, context):
    """Condition that version v, known to lie in context, lies in r; None: always."""
    parts = []
    if r[0] > context[0]:
        parts.append("v >= %d" % r[0])
    if r[1] < context[1]:
        parts.append("v <= %d" % r[1])
    return " && ".join(parts) or None


def flex_of(m, context):
    if m.flexible is None or m.flexible > context[1]:
        return "false"
    return "true" if m.flexible <= context[0] else "v >= %d" % m.flexible


def present(f, context):
    """The part of context in which f is there, None if there is none."""
    lo, hi = max(f.versions[0], context[0]), min(f.versions[1], context[1])
    return (lo, hi) if lo <= hi else None


def nullable(f, context):
    """C expression: may f be null in version v?"""
    if not f.null:
        return "false"
    inner = (max(f.null[0], context[0]), min(f.null[1], context[1]))
    if inner[0] > inner[1]:
        return "false"
    return within(inner, context) or "true"


def non_default(f, m):
    """C expression: has f (of m) another value than its default?"""
    x = "%s->%s" % (m, f.name)
    if f.array:
        if f.default == "null":
            return "!%s_null" % x
        return "%s_n != 0%s" % (x, " || %s_null" % x if f.null else "")
    if f.pointer:
        return "%s != NULL" % x
    if f.struct:
        f.struct.compared = True
        return "!%s_is_default(&%s)" % (f.struct.cname[6:], x)
    if f.base == "uuid":
        return "!kafka_uuid_is_zero(%s)" % x
    if f.base == "records":
        return "%s.bytes.ptr != NULL || %s.spans_n != 0" % (x, x)
    if f.base in BLOBS:
        return "%s.ptr != NULL" % x if f.default == "null" else "%s.len != 0" % x
    if f.base == "bool":
        return "!%s" % x if f.literal() else x
    return "%s != %s" % (x, f.literal() or "0")


def declare(f):
    if f.array:
        out = ["%s *%s;" % (f.ctype(), f.name), "uint32_t %s_n;" % f.name]
        if f.piecewise:
            out += ["struct slice %s_made; /* as written by %s_write; borrowed as records are */" %
                    (f.name, f.struct.cname), "uint32_t %s_made_n;" % f.name]
        return out + (["bool %s_null;" % f.name] if f.null else [])
    if f.pointer:
        return ["%s *%s;" % (f.ctype(), f.name)]
    return ["%s %s%s;" % (f.ctype(), f.name, "[16]" if f.base == "uuid" else "")]


def comment(f, m, s):
    words = []
    if f.versions[0] > s.context[0] or f.versions[1] < s.context[1]:
        words.append(show(f.versions, m))
    if f.null and not f.array:
        words.append("nullable" if f.null == f.versions else "nullable " + show(f.null, m))
    return " /* %s */" % ", ".join(words) if words else ""


def show(r, m):
    if r[1] == m.versions[1]:
        return "%d+" % r[0]
    return "%d" % r[0] if r[0] == r[1] else "%d-%d" % r


def initializers(s, prefix=""):
    out = []
    for f in s.fields:
        if f.array:
            if f.default == "null":
                out.append(".%s%s_null = true" % (prefix, f.name))
        elif f.struct and not f.pointer:
            out += initializers(f.struct, prefix + f.name + ".")
        elif f.literal():
            out.append(".%s%s = %s" % (prefix, f.name, f.literal()))
    return out


def emit_struct(m, s, out):
    out.append("struct %s {" % s.cname)
    for f in s.fields:
        d = declare(f)
        d[0] += comment(f, m, s)
        out += ["    " + x for x in d]
    if not s.fields:
        out.append("    char none; /* no fields */")
    out += ["};", "static inline void %s_init(struct %s *m)" % (s.cname, s.cname), "{"]
    init = initializers(s)
    out.append("    *m = (struct %s){%s};" % (s.cname, ", ".join(init) or "0"))
    out += ["}", ""]


def emit_read_value(m, f, context, out, pad):
    """Reads f, known to be there in context."""
    x = "m->" + f.name
    flex = "false" if f.inflexible else "flex"
    if f.array:
        size = INTS[f.base][2] if f.base in INTS else None
        if f.base == "string":
            size = steps(lambda v: 1 if m.is_flexible(v) else 2, context)
        elif f.struct:
            size = steps(lambda v: max(1, m.size_min(f.struct, v)), context)
        out.append(pad + "%s_n = kreader_count(r, %s, %s, %s, %s);" %
                   (x, flex, nullable(f, context), size, "&%s_null" % x if f.null else "NULL"))
        if f.simple_array:
            out.append(pad + "%s = kreader_%ss(r, a, %s_n);" % (x, INTS[f.base][1], x))
        elif f.base == "string":
            out.append(pad + "%s = kreader_strings(r, a, %s_n, %s);" % (x, x, flex))
        else:
            out.append(pad + "%s = kreader_alloc(r, a, %s_n, sizeof *%s);" % (x, x, x))
            out.append(pad + "for (uint32_t i = 0; i < %s_n && !r->err; i++)" % x)
            out.append(pad + "    %s_read(r, v, a, &%s[i]);" % (f.struct.cname[6:], x))
    elif f.pointer:
        out.append(pad + "if (kreader_i8(r) >= 0 && (%s = kreader_alloc(r, a, 1, sizeof *%s)))" % (x, x))
        out.append(pad + "    %s_read(r, v, a, %s);" % (f.struct.cname[6:], x))
    elif f.struct:
        out.append(pad + "%s_read(r, v, a, &%s);" % (f.struct.cname[6:], x))
    elif f.base == "uuid":
        out.append(pad + "kreader_uuid(r, %s);" % x)
    elif f.base in BLOBS:
        out.append(pad + "%s = kreader_%s(r, %s, %s);" % (x, f.base, flex, nullable(f, context)))
    else:
        out.append(pad + "%s = kreader_%s(r);" % (x, INTS[f.base][1]))


def emit_write_value(f, context, out, pad):
    x = "m->" + f.name
    flex = "false" if f.inflexible else "flex"
    if f.array:
        if f.null:
            count = "kwriter_count_null(w, %s_n, %s_null, %s, %s)" % (x, x, flex, nullable(f, context))
        else:
            count = "kwriter_count(w, %s_n, %s)" % (x, flex)
        if f.simple_array:
            out.append(pad + "kwriter_%ss(w, %s, %s);" % (INTS[f.base][1], x, count))
        elif f.base == "string":
            out.append(pad + "kwriter_strings(w, %s, %s, %s);" % (x, count, flex))
        elif f.piecewise:
            out.append(pad + "kwriter_count(w, %s_n + %s_made_n, %s);" % (x, x, flex))
            out.append(pad + "for (uint32_t i = 0; i < %s_n && !w->err; i++)" % x)
            out.append(pad + "    %s_write(w, v, &%s[i]);" % (f.struct.cname[6:], x))
            out.append(pad + "kwriter_made(w, %s_made);" % x)
        else:
            out.append(pad + "for (uint32_t i = 0, n = %s; i < n; i++)" % count)
            out.append(pad + "    %s_write(w, v, &%s[i]);" % (f.struct.cname[6:], x))
    elif f.pointer:
        out.append(pad + "kwriter_i8(w, %s ? 1 : -1);" % x)
        out.append(pad + "if (%s)" % x)
        out.append(pad + "    %s_write(w, v, %s);" % (f.struct.cname[6:], x))
    elif f.struct:
        out.append(pad + "%s_write(w, v, &%s);" % (f.struct.cname[6:], x))
    elif f.base == "uuid":
        out.append(pad + "kwriter_uuid(w, %s);" % x)
    elif f.base == "records":
        out.append(pad + "kwriter_records(w, &%s, %s, %s);" % (x, flex, nullable(f, context)))
    elif f.base in BLOBS and f.null:
        out.append(pad + "kwriter_%s_null(w, %s, %s, %s);" % (f.base, x, flex, nullable(f, context)))
    elif f.base in BLOBS:
        out.append(pad + "kwriter_%s(w, %s, %s);" % (f.base, x, flex))
    else:
        out.append(pad + "kwriter_%s(w, %s);" % (INTS[f.base][1], x))


def steps(fn, context):
    """C expression of fn(v) over the versions of context."""
    text, last = str(fn(context[0])), fn(context[0])
    for v in range(context[0] + 1, context[1] + 1):
        if fn(v) != last:
            last = fn(v)
            text = "v >= %d ? %d : %s" % (v, last, "(%s)" % text if "?" in text else text)
    return text


def guarded(cond, body, out, pad, other=None):
    """body (lines), under `if (cond)` unless it is None; other: lines of the else."""
    if cond is None:
        out += body
        return
    brace = len(body) > 1 or other
    out.append(pad + "if (%s)%s" % (cond, " {" if brace else ""))
    out += [("    " + x).rstrip() for x in body]
    if other:
        out.append(pad + "} else if (%s) {" % other)
        out.append(pad + "    kwriter_fail(w, ERR_INVALID);")
    if brace:
        out.append(pad + "}")


def flex_used(m, s):
    """Does the code for s ask whether v is flexible?"""
    if any(f.tag is None and present(f, s.context) and not f.inflexible and (f.array or f.base in BLOBS)
           for f in s.fields):
        return True
    return flex_of(m, s.context) not in ("true", "false") or any(
        f.array or f.base in BLOBS for f in s.tagged())


def emit_read(m, s, out):
    name, context = s.cname[6:], s.context
    body = []
    for f in s.fields:
        inner = present(f, context)
        if not inner or f.tag is not None:
            continue
        lines = []
        emit_read_value(m, f, inner, lines, "    ")
        guarded(within(f.versions, context), lines, body, "    ")
    flex = flex_of(m, context)
    if flex != "false":
        lines = []
        if s.tagged():
            emit_read_tags(m, s, lines)
        else:
            lines.append("    kreader_tags_skip(r);")
        guarded(None if flex == "true" else "flex", lines, body, "    ")
    out += ["static void %s_read(struct kreader *r, int16_t v, struct arena *a, struct %s *m)" % (name, s.cname),
            "{"]
    if s.tagged():
        out.append("    struct kreader_tags t;")
    if flex_used(m, s):
        out.append("    const bool flex = %s;" % flex)
    if s.tagged() or flex_used(m, s):
        out.append("")
    out += ["    %s_init(m);" % s.cname] + body + ["}", ""]


def emit_read_tags(m, s, lines):
    pad = "    "
    flexible = (max(m.flexible, s.context[0]), s.context[1])
    lines += [pad + "for (kreader_tags_open(r, &t); kreader_tag_next(r, &t);) {", pad + "    switch (t.tag) {"]
    for f in s.tagged():
        inner = present(f, flexible)
        if not inner:
            continue
        body = []
        emit_read_value(m, f, inner, body, pad * 3)
        cond = within(f.versions, flexible)
        lines.append(pad + "    case %d:" % f.tag)
        if cond:
            lines.append(pad + "        if (%s) {" % cond)
            lines += ["    " + x for x in body]
            lines += [pad + "        } else {", pad + "            kreader_tag_skip(r);", pad + "        }"]
        else:
            lines += body
        lines.append(pad + "        break;")
    lines += [pad + "    default:", pad + "        kreader_tag_skip(r);", pad + "    }", pad + "}"]


def emit_write(m, s, out):
    name, context = s.cname[6:], s.context
    body = []
    for f in s.fields:
        inner = present(f, context)
        cond = within(f.versions, context)
        if f.tag is not None:
            continue
        if not inner:
            if not f.ignorable:
                body += ["    if (%s)" % non_default(f, "m"), "        kwriter_fail(w, ERR_INVALID);"]
            continue
        lines = []
        emit_write_value(f, inner, lines, "    ")
        guarded(cond, lines, body, "    ", non_default(f, "m") if cond and not f.ignorable else None)
    flex = flex_of(m, context)
    if s.tagged():
        emit_write_tags(m, s, body)
    elif flex == "true":
        body.append("    kwriter_i8(w, 0);")
    elif flex != "false":
        body += ["    if (flex)", "        kwriter_i8(w, 0);"]
    head = []
    if flex_used(m, s):
        head.append("    const bool flex = %s;" % flex)
    for f in s.tagged():
        cond = within(f.versions, context)
        test = non_default(f, "m")
        if cond and ("||" in test):
            test = "(%s)" % test
        head.append("    const bool has_%s = %s%s;" % (f.name, cond + " && " if cond else "", test))
    out += ["static void %s_write(struct kwriter *w, int16_t v, const struct %s *m)" % (name, s.cname), "{"]
    out += head + ([""] if head and body else []) + body + ["}", ""]


def emit_write_tags(m, s, body):
    flex = flex_of(m, s.context)
    pad, lines = "    ", []
    lines.append(pad + "kwriter_uvarint(w, %s);" % " + ".join("(uint32_t)has_%s" % f.name for f in s.tagged()))
    for f in s.tagged():
        inner = present(f, s.context)
        value = []
        emit_write_value(f, inner, value, pad * 2)
        lines += [pad + "if (has_%s) {" % f.name, pad + "    size_t at = kwriter_tag_open(w, %d);" % f.tag, ""]
        lines += value + [pad + "    kwriter_tag_close(w, at);", pad + "}"]
    guarded(None if flex == "true" else "flex", lines, body, pad)
    for f in s.tagged():
        cond = within(f.versions, s.context)
        if cond and not f.ignorable:
            test = non_default(f, "m")
            body += [pad + "if (!(%s) && %s)" % (cond, "(%s)" % test if "||" in test else test),
                     pad + "    kwriter_fail(w, ERR_INVALID);"]


def emit_is_default(s, out):
    tests = [non_default(f, "m") for f in s.fields]
    out += ["static bool %s_is_default(const struct %s *m)" % (s.cname[6:], s.cname), "{",
            "    return !(%s);" % " || ".join(tests), "}", ""]


def pieces(m):
    return [f for s in m.order for f in s.fields if f.piecewise]


def emit_message(m, out):
    for f in pieces(m):
        out += ["void %s_write(struct kwriter *w, int16_t version, const struct %s *m)" % (f.struct.cname, f.struct.cname),
                "{", "    %s_write(w, version, m);" % f.struct.cname[6:], "}", ""]
    lo, hi = m.versions
    check = "version < %d || version > %d" % (lo, hi) if lo != hi else "version != %d" % lo
    short = m.cname[6:]
    out += ["enum err %s_decode(struct kreader *r, int16_t version, struct arena *a," % m.cname,
            "    struct %s *m)" % m.cname,
            "{",
            "    if (%s) {" % check,
            "        kreader_fail(r, ERR_UNSUPPORTED);",
            "        %s_init(m);" % m.cname,
            "        return r->err;",
            "    }",
            "    %s_read(r, version, a, m);" % short,
            "    if (r->err)",
            "        %s_init(m);" % m.cname,
            "    return r->err;", "}", "",
            "enum err %s_encode(struct kwriter *w, int16_t version, const struct %s *m)" % (m.cname, m.cname),
            "{",
            "    if (%s)" % check,
            "        kwriter_fail(w, ERR_UNSUPPORTED);",
            "    else",
            "        %s_write(w, version, m);" % short,
            "    return w->err;", "}", ""]


MADE = "/* Made by gen.py from messages/. Not to be edited. %s */"


def apis(messages):
    return [m for m in messages if m.kind == "request"]


def messages_h(messages):
    out = [MADE % "Messages of Kafka's protocol; see proto/kafka/codec.h.", "#ifndef WEIR_PROTO_KAFKA_MESSAGES_H",
           "#define WEIR_PROTO_KAFKA_MESSAGES_H", "", '#include "proto/kafka/codec.h"', "",
           "enum kafka_api_key {"]
    out += ["    KAFKA_API_%s = %d," % (snake(m.api["name"]).upper(), m.api["key"]) for m in apis(messages)]
    out += ["};", ""]
    for m in messages:
        out.append("/* ---- %s%s, versions %s%s ---- */" % (
            m.name, " (%d)" % m.api["key"] if m.api else "", "%d to %d" % m.versions,
            ", flexible from %d" % m.flexible if m.flexible is not None else ""))
        out.append("")
        for s in m.order:
            emit_struct(m, s, out)
        for f in pieces(m):
            out.append("void %s_write(struct kwriter *w, int16_t version, const struct %s *m);" % (f.struct.cname, f.struct.cname))
        out += ["enum err %s_decode(struct kreader *r, int16_t version, struct arena *a," % m.cname,
                "    struct %s *m);" % m.cname,
                "enum err %s_encode(struct kwriter *w, int16_t version, const struct %s *m);" % (m.cname, m.cname), ""]
    return out + ["#endif", ""]


def messages_c(messages):
    out = [MADE % "The codec of kafka_messages.h.", '#include "proto/kafka/kafka_messages.h"', ""]
    for m in messages:
        body = []
        for s in m.order:  # inner first: `compared` is known where an outer one asks
            emit_read(m, s, body)
        writes = []
        for s in m.order:
            emit_write(m, s, writes)
        for s in m.order:
            if s.compared:
                emit_is_default(s, out)
        out += body + writes
        emit_message(m, out)
    out.append("const struct kafka_api kafka_apis[] = {")
    for m in apis(messages):
        low = m.api["advertised"]
        out.append('    {%d, %d, %d, %d, %s, "%s"},' % (
            m.api["key"], m.versions[0], m.versions[1], m.versions[0] if low is None else low,
            "INT16_MAX" if m.flexible is None else m.flexible, m.api["name"]))
    return out + ["};", "const size_t kafka_apis_n = sizeof kafka_apis / sizeof kafka_apis[0];", ""]


FIELDS_H = """#ifndef WEIR_PROTO_KAFKA_FIELDS_H
#define WEIR_PROTO_KAFKA_FIELDS_H

#include "proto/kafka/kafka_messages.h"

enum kafka_type {
%s
};

struct kafka_layout;
struct kafka_field {
    const char *name;
    enum kafka_type type;
    bool array, ignorable;
    int16_t from, to;              /* versions */
    int16_t null_from, null_to;    /* -1: none */
    int16_t tag;                   /* -1: none */
    uint16_t at, at_n, at_null;    /* offsets of the members; 0: no such member */
    const struct kafka_layout *of; /* KAFKA_STRUCT */
};
struct kafka_layout {
    const char *name;
    size_t size;
    void (*init)(void *m);
    const struct kafka_field *fields;
    uint32_t fields_n;
};
struct kafka_message {
    const char *name;
    int16_t key; /* -1: no API */
    bool response;
    int16_t min, max, flexible;
    const struct kafka_layout *layout;
    enum err (*decode)(struct kreader *r, int16_t version, struct arena *a, void *m);
    enum err (*encode)(struct kwriter *w, int16_t version, const void *m);
};
extern const struct kafka_message kafka_messages[];
extern const size_t kafka_messages_n;

#endif
"""


def fields_h():
    types = list(INTS) + list(BLOBS) + ["uuid", "struct"]
    return [MADE % "Layouts of the messages as data, for tests.",
            FIELDS_H % "\n".join("    KAFKA_%s," % t.upper() for t in types)]


def fields_c(messages):
    out = [MADE % "See kafka_fields.h.", '#include "proto/kafka/kafka_fields.h"', "", "#include <stddef.h>", ""]
    for m in messages:
        for s in m.order:
            if s.fields:
                out.append("static const struct kafka_field %s_fields[] = {" % s.cname)
            for f in s.fields:
                null = f.null or (-1, -1)
                out.append('    {"%s", KAFKA_%s, %d, %d, %d, %d, %d, %d, %d, offsetof(struct %s, %s), %s, %s, %s},' % (
                    f.name, "STRUCT" if f.struct else f.base.upper(), f.array, f.ignorable,
                    f.versions[0], f.versions[1], null[0], null[1], -1 if f.tag is None else f.tag, s.cname, f.name,
                    "offsetof(struct %s, %s_n)" % (s.cname, f.name) if f.array else "0",
                    "offsetof(struct %s, %s_null)" % (s.cname, f.name) if f.array and f.null else "0",
                    "&%s_layout" % f.struct.cname if f.struct else "NULL"))
            if s.fields:
                out.append("};")
            out += ["static void %s_init_any(void *m)" % s.cname, "{", "    %s_init(m);" % s.cname, "}"]
            out += ["static const struct kafka_layout %s_layout = {" % s.cname,
                    '    "%s", sizeof(struct %s), %s_init_any, %s, %d};' % (
                        s.cname, s.cname, s.cname, s.cname + "_fields" if s.fields else "NULL", len(s.fields))]
        out += ["static enum err %s_decode_any(struct kreader *r, int16_t version, struct arena *a, void *m)" % m.cname,
                "{", "    return %s_decode(r, version, a, m);" % m.cname, "}",
                "static enum err %s_encode_any(struct kwriter *w, int16_t version, const void *m)" % m.cname, "{",
                "    return %s_encode(w, version, m);" % m.cname, "}", ""]
    out.append("const struct kafka_message kafka_messages[] = {")
    for m in messages:
        out.append('    {"%s", %d, %s, %d, %d, %s, &%s_layout, %s_decode_any, %s_encode_any},' % (
            m.name, m.api["key"] if m.api else -1, "true" if m.kind == "response" else "false", m.versions[0],
            m.versions[1], "INT16_MAX" if m.flexible is None else m.flexible, m.cname, m.cname, m.cname))
    return out + ["};", "const size_t kafka_messages_n = sizeof kafka_messages / sizeof kafka_messages[0];", ""]


def main(argv):
    if len(argv) < 3:
        raise SystemExit(__doc__)
    messages = load(argv[2:])
    for name, lines in (("kafka_messages.h", messages_h(messages)), ("kafka_messages.c", messages_c(messages)),
                        ("kafka_fields.h", fields_h()), ("kafka_fields.c", fields_c(messages))):
        with open(os.path.join(argv[1], name), "w") as f:
            f.write("\n".join(lines))


if __name__ == "__main__":
    main(sys.argv)
