#!/usr/bin/env python3
"""Compares the schemas in src/proto/kafka/messages with Apache Kafka's own message definitions.

    schema_check.py [FOLDER]     FOLDER: Kafka's clients/src/main/resources/common/message; without it
                                 ../shared/reference/kafka/message-4.2 beside the project, if that is there

Every API that clients may call, every field: order, name, type, versions, where it may be null, default, tag,
ignorable. Exit 77 (skipped) if the folder is not there. First it damages schemas in memory, one fact at a time: a
comparison that does not notice fails.
"""
import copy
import glob
import json
import os
import re
import sys

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), *[".."] * 4))
sys.path.insert(0, os.path.join(ROOT, "src", "proto", "kafka"))
sys.dont_write_bytecode = True
import gen  # noqa: E402

# What brokers answer, but no schema is kept for.
LEFT_OUT = {
    "WriteTxnMarkers": "between brokers", "AlterReplicaLogDirs": "there is one log directory",
    "CreateDelegationToken": "tokens come from elsewhere", "RenewDelegationToken": "tokens come from elsewhere",
    "ExpireDelegationToken": "tokens come from elsewhere", "DescribeDelegationToken": "tokens come from elsewhere",
    "DescribeQuorum": "there is no Raft quorum", "UpdateFeatures": "features are those of the program",
    "UnregisterBroker": "there is one broker", "GetTelemetrySubscriptions": "no client metrics",
    "PushTelemetry": "no client metrics", "AddRaftVoter": "there is no Raft quorum",
    "RemoveRaftVoter": "there is no Raft quorum", "InitializeShareGroupState": "between brokers",
    "ReadShareGroupState": "between brokers", "WriteShareGroupState": "between brokers",
    "DeleteShareGroupState": "between brokers", "ReadShareGroupStateSummary": "between brokers",
}
DATA = ("RequestHeader", "ResponseHeader", "ConsumerProtocolSubscription", "ConsumerProtocolAssignment")


def load_kafka(path):
    with open(path) as f:
        text = re.sub(r"^\s*//.*$", "", f.read(), flags=re.M)
    return json.loads(re.sub(r"\s//[^\"\n]*$", "", text, flags=re.M))


def span(text, last):
    if text in (None, "", "none"):
        return None
    if text.endswith("+"):
        return int(text[:-1]), last
    lo, _, hi = text.partition("-")
    return int(lo), min(int(hi or lo), last)


def both(a, b):
    if not a or not b:
        return None
    lo, hi = max(a[0], b[0]), min(a[1], b[1])
    return (lo, hi) if lo <= hi else None


def default(kind, value):
    """The default of a field in one form, whoever wrote it how."""
    if value == "null":
        return "null"
    if kind == "bool":
        return str(value).lower() == "true"
    if kind.endswith(("int8", "int16", "int32", "int64")) and not kind.startswith("[]"):
        return int(str(value or 0), 0)
    if kind == "float64":
        return float(value or 0)
    if value not in (None, ""):
        raise SystemExit("no such default: %s of %s" % (value, kind))
    return ""


def of_kafka(j, fields, context):
    """The fields that are there in some version of context, as comparable tuples."""
    common = {c["name"]: c for c in j.get("commonStructs", [])}
    out = []
    for f in fields:
        there = both(span(f["versions"], context[1]), context)
        if not there:
            continue
        kind = f["type"]
        base = kind.replace("[]", "")
        inner = f.get("fields") or (common[base]["fields"] if base in common else None)
        if inner is not None:
            kind = kind.replace(base, "struct")
        tagged = both(span(f.get("taggedVersions"), context[1]), there)
        if tagged and tagged != there:
            raise SystemExit("%s: tagged in some versions only" % f["name"])
        out.append({"name": gen.snake(f["name"]), "type": kind, "versions": there,
                    "null": both(span(f.get("nullableVersions"), context[1]), there),
                    "default": default(kind, f.get("default")), "tag": f["tag"] if tagged else None,
                    "ignorable": bool(f.get("ignorable")), "inflexible": f.get("flexibleVersions") == "none",
                    "fields": of_kafka(j, inner, there) if inner is not None else None})
    return out


def of_ours(fields, context):
    out = []
    for f in fields:
        there = both(f.versions, context)
        if not there:
            raise SystemExit("%s: is in no version" % f.name)
        kind = f.type.replace(f.base, "struct") if f.struct else f.type
        out.append({"name": f.name, "type": kind, "versions": there, "null": both(f.null, there),
                    "default": default(kind, f.default), "tag": f.tag, "ignorable": f.ignorable,
                    "inflexible": f.inflexible,
                    "fields": of_ours(f.struct.fields, there) if f.struct else None})
    return out


def compare(where, ours, theirs):
    names, wanted = [f["name"] for f in ours], [f["name"] for f in theirs]
    if names != wanted:
        yield "%s: fields are %s, should be %s" % (where, " ".join(names), " ".join(wanted))
    for a in ours:
        for b in theirs:
            if a["name"] != b["name"]:
                continue
            for key in a:
                if key != "fields" and a[key] != b[key]:
                    yield "%s.%s: %s is %s, should be %s" % (where, a["name"], key, a[key], b[key])
            if a["fields"] is not None and b["fields"] is not None:
                yield from compare("%s.%s" % (where, a["name"]), a["fields"], b["fields"])


def facts_of_kafka(j, unstable):
    lo, hi = span(j["validVersions"], 9999)
    if unstable:
        hi -= 1
    flexible = span(j["flexibleVersions"], hi)
    return {"versions": (lo, hi), "flexible": max(lo, flexible[0]) if flexible else None, "key": j.get("apiKey"),
            "fields": of_kafka(j, j["fields"], (lo, hi))}


def facts_of_ours(m):
    return {"versions": m.versions, "flexible": m.flexible, "key": m.api["key"] if m.api else None,
            "fields": of_ours(m.root.fields, m.versions)}


def check(ours, theirs):
    """Differences between two tables of messages by name."""
    for name in sorted(set(ours) | set(theirs)):
        if name not in ours or name not in theirs:
            yield "%s: only %s" % (name, "in the schemas here" if name in ours else "among Kafka's")
            continue
        for key in ("versions", "flexible", "key"):
            if ours[name][key] != theirs[name][key]:
                yield "%s: %s is %s, should be %s" % (name, key, ours[name][key], theirs[name][key])
        yield from compare(name, ours[name]["fields"], theirs[name]["fields"])


def theirs_of(folder):
    files = {}
    for path in glob.glob(os.path.join(folder, "*.json")):
        j = load_kafka(path)
        files[j["name"]] = j
    out = {}
    for name, j in files.items():
        if j["type"] == "request" and "broker" in j.get("listeners", []) and j["name"][:-7] not in LEFT_OUT:
            unstable = j.get("latestVersionUnstable", False)
            out[name] = facts_of_kafka(j, unstable)
            out[name[:-7] + "Response"] = facts_of_kafka(files[name[:-7] + "Response"], unstable)
        elif name in DATA:
            out[name] = facts_of_kafka(j, False)
    return out


def damages(ours):
    """(what, table) with one fact wrong each."""
    def field(table, *path):
        fields = table["FetchRequest"]["fields"]
        for name in path:
            f = next(x for x in fields if x["name"] == name)
            fields = f["fields"]
        return f
    partition = ("topics", "partitions", "log_start_offset")
    for what, path, value in (("type", partition, "int32"), ("versions", partition, (6, 18)),
                              ("default", partition, 0), ("ignorable", partition, False),
                              ("tag", ("replica_state",), 2), ("null", ("cluster_id",), None),
                              ("default", ("cluster_id",), ""), ("name", ("rack_id",), "rack"),
                              ("inflexible", ("rack_id",), True)):
        t = copy.deepcopy(ours)
        field(t, *path)[what] = value
        yield "%s of %s" % (what, ".".join(path)), t
    t = copy.deepcopy(ours)
    fields = field(t, "topics")["fields"]
    fields[0], fields[1] = fields[1], fields[0]
    yield "order of topics", t
    t = copy.deepcopy(ours)
    del t["HeartbeatResponse"]["fields"][-1]
    yield "a field less", t
    for key, value in (("versions", (4, 19)), ("flexible", 11), ("key", 2)):
        t = copy.deepcopy(ours)
        t["FetchResponse"][key] = value
        yield key, t
    t = copy.deepcopy(ours)
    del t["FetchRequest"]
    yield "a message less", t


def count(fields):
    return sum(1 + (count(f["fields"]) if f["fields"] else 0) for f in fields)


def main(argv):
    folder = argv[1] if len(argv) > 1 else os.path.join(ROOT, "..", "shared", "reference", "kafka", "message-4.2")
    if not os.path.isdir(folder):
        print("skipped: no %s" % os.path.relpath(folder, ROOT))
        return 77
    paths = glob.glob(os.path.join(ROOT, "src", "proto", "kafka", "messages", "*.msg"))
    ours = {m.name: facts_of_ours(m) for m in gen.load(paths)}
    theirs = theirs_of(folder)
    wrong = 0
    for what, table in damages(ours):
        if not list(check(table, theirs)):
            wrong += 1
            print("goes unnoticed: %s" % what)
    for line in check(ours, theirs):
        wrong += 1
        print(line)
    fields = sum(count(m["fields"]) for m in ours.values())
    print("%d messages, %d fields compared; %d wrong" % (len(ours), fields, wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
