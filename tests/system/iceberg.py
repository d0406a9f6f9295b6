"""Reading Iceberg tables for the tests, apart from all of Weir's code: table metadata by json, manifests by a
small Avro reader, Parquet by DuckDB's C library through ctypes.

A `place` opens what locations name: Folder for file://, Bucket for s3://.
"""
import ctypes, glob, json, os, re, struct, urllib.parse, zlib

import s3
from harness import ROOT


# ---- places --------------------------------------------------------------------------------------------

class Folder:
    def __init__(self, root):
        self.root = root

    def read(self, location):
        with open(self.local(location, None), "rb") as f:
            return f.read()

    def local(self, location, scratch):
        return re.sub("^file:/+", "/", location)  # Java writes one slash

    def names(self, prefix):
        return sorted("file://" + p for p in glob.glob(os.path.join(self.root, prefix, "**"), recursive=True)
                      if os.path.isfile(p))

    def url(self):
        return "file://" + self.root


class Bucket:
    """Below s3://bucket/PREFIX at an endpoint, past any proxy."""

    def __init__(self, endpoint, prefix, bucket="bucket"):
        self.endpoint, self.prefix, self.bucket = endpoint, prefix + "/" if prefix else "", bucket

    def path(self, location):
        return "/" + urllib.parse.quote(location.replace("s3://", "", 1), safe="/-_.~")

    def read(self, location):
        status, _, body = s3.signed(self.endpoint, "GET", self.path(location))
        assert status == 200, (location, status, body[:200])
        return body

    def local(self, location, scratch):
        path = os.path.join(scratch, location.replace("/", "_").replace(":", ""))
        if not os.path.exists(path):
            with open(path, "wb") as f:
                f.write(self.read(location))
        return path

    def names(self, prefix):
        found, token = [], None
        while True:
            q = {"list-type": "2", "prefix": self.prefix + prefix}
            if token:
                q["continuation-token"] = token
            query = "&".join("%s=%s" % (k, urllib.parse.quote(q[k], safe="-_.~")) for k in sorted(q))
            status, _, body = s3.signed(self.endpoint, "GET", "/%s?%s" % (self.bucket, query))
            assert status == 200, body
            text = body.decode()
            found += ["s3://%s/%s" % (self.bucket, k) for k in re.findall(r"<Key>(.*?)</Key>", text)]
            m = re.search(r"<NextContinuationToken>(.*?)</NextContinuationToken>", text)
            if "<IsTruncated>true" not in text or not m:
                return sorted(found)
            token = m.group(1)

    def url(self):
        return ("s3://%s/%s" % (self.bucket, self.prefix)).rstrip("/")


# ---- Avro ----------------------------------------------------------------------------------------------

class Avro:
    def __init__(self, data):
        self.d, self.at = data, 0

    def take(self, n):
        self.at += n
        assert self.at <= len(self.d)
        return self.d[self.at - n:self.at]

    def long(self):
        shift = v = 0
        while True:
            b = self.take(1)[0]
            v |= (b & 127) << shift
            shift += 7
            if b < 128:
                return v >> 1 ^ -(v & 1)

    def bytes(self):
        return self.take(self.long())

    def blocks(self):
        while True:
            n = self.long()
            if n == 0:
                return
            if n < 0:
                n = -n
                self.long()
            yield from range(n)

    def value(self, t):
        if isinstance(t, list):
            return self.value(t[self.long()])
        kind = t["type"] if isinstance(t, dict) else t
        if isinstance(kind, (dict, list)):
            return self.value(kind)
        if kind == "record":
            return {f["name"]: self.value(f["type"]) for f in t["fields"]}
        if kind == "array":
            return [self.value(t["items"]) for _ in self.blocks()]
        if kind == "map":
            return {self.bytes().decode(): self.value(t["values"]) for _ in self.blocks()}
        if kind == "fixed":
            return self.take(t["size"])
        simple = {"null": lambda: None, "boolean": lambda: self.take(1) == b"\x01", "int": self.long, "long": self.long,
                  "float": lambda: struct.unpack("<f", self.take(4))[0],
                  "double": lambda: struct.unpack("<d", self.take(8))[0],
                  "bytes": self.bytes, "string": lambda: self.bytes().decode()}
        return simple[kind]()


def avro(data):
    a = Avro(data)
    assert a.take(4) == b"Obj\x01"
    meta = a.value({"type": "map", "values": "bytes"})
    schema, codec, sync = json.loads(meta["avro.schema"]), meta.get("avro.codec", b"null"), a.take(16)
    while a.at < len(data):
        n, block = a.long(), a.bytes()
        assert a.take(16) == sync
        b = Avro({b"null": lambda x: x, b"deflate": lambda x: zlib.decompress(x, -15)}[codec](block))
        for _ in range(n):
            yield b.value(schema)


# ---- tables --------------------------------------------------------------------------------------------

class Table:
    """The newest version in the place's metadata folder."""

    def __init__(self, place, name, space="weir"):
        self.place = place
        versions = {}
        for n in place.names("%s/%s/metadata/" % (space, name)):
            m = re.search(r"/v?(\d+)(?:-[0-9a-f-]{36})?\.metadata\.json$", n)
            if m:
                versions[int(m.group(1))] = n
        assert versions, "there is no table %s" % name
        self.version = max(versions)
        self.md = json.loads(place.read(versions[self.version]))
        assert self.md["format-version"] == 2

    def snapshot(self):
        i = self.md.get("current-snapshot-id", -1)
        return next((s for s in self.md["snapshots"] if s["snapshot-id"] == i), None)

    def files(self, snapshot=None):
        """Live data files of the snapshot (the current one)."""
        s = snapshot or self.snapshot()
        out = []
        for m in avro(self.place.read(s["manifest-list"])) if s else ():
            for e in avro(self.place.read(m["manifest_path"])):
                if e["status"] != 2:
                    out.append(e["data_file"])
        paths = [f["file_path"] for f in out]
        assert len(set(paths)) == len(paths), "a file is in the table twice"
        return out

    def offsets(self):
        """Covered offsets; of a snapshot that does not say them, the table's."""
        s = self.snapshot()
        return json.loads(s["summary"].get("weir.offsets") or self.md["properties"]["weir.offsets"])

    def columns(self):
        schema = next(s for s in self.md["schemas"] if s["schema-id"] == self.md["current-schema-id"])
        return {f["name"]: f for f in schema["fields"]}

    def local(self, scratch):
        return [self.place.local(f["file_path"], scratch) for f in self.files()]


# ---- DuckDB --------------------------------------------------------------------------------------------

class Result(ctypes.Structure):
    _fields_ = [("words", ctypes.c_uint64 * 6)]


class Duck:
    """Just enough of DuckDB's C interface: rows of text."""

    def __init__(self):
        self.lib = ctypes.CDLL(os.path.join(ROOT, "deps", "duckdb", "libduckdb.so"))
        self.lib.duckdb_value_varchar.restype = ctypes.c_void_p
        self.lib.duckdb_value_varchar.argtypes = [ctypes.POINTER(Result), ctypes.c_uint64, ctypes.c_uint64]
        self.lib.duckdb_result_error.restype = ctypes.c_char_p
        for f in ("duckdb_row_count", "duckdb_column_count"):
            getattr(self.lib, f).restype = ctypes.c_uint64
        self.lib.duckdb_free.argtypes = [ctypes.c_void_p]
        self.db, self.con = ctypes.c_void_p(), ctypes.c_void_p()
        assert self.lib.duckdb_open(None, ctypes.byref(self.db)) == 0
        assert self.lib.duckdb_connect(self.db, ctypes.byref(self.con)) == 0

    def rows(self, sql):
        r = Result()
        if self.lib.duckdb_query(self.con, sql.encode(), ctypes.byref(r)) != 0:
            raise AssertionError(self.lib.duckdb_result_error(ctypes.byref(r)).decode() + "\n" + sql[:500])
        cols, out = self.lib.duckdb_column_count(ctypes.byref(r)), []
        for i in range(self.lib.duckdb_row_count(ctypes.byref(r))):
            row = []
            for k in range(cols):
                p = self.lib.duckdb_value_varchar(ctypes.byref(r), k, i)
                row.append(ctypes.cast(p, ctypes.c_char_p).value.decode() if p else None)
                self.lib.duckdb_free(p)
            out.append(tuple(row))
        self.lib.duckdb_destroy_result(ctypes.byref(r))
        return out

    def close(self):
        self.lib.duckdb_disconnect(ctypes.byref(self.con))
        self.lib.duckdb_close(ctypes.byref(self.db))


def files_sql(paths):
    return "read_parquet([%s], union_by_name=true)" % ",".join("'%s'" % p.replace("'", "''") for p in paths)


def exactly_once(duck, table, scratch):
    """Each offset below the covered ones is in the table once, and none else; -> rows."""
    paths = table.local(scratch)
    rows = duck.rows("SELECT partition, count(*), count(DISTINCT \"offset\"), min(\"offset\"), max(\"offset\") FROM %s "
                     "GROUP BY partition ORDER BY partition" % files_sql(paths)) if paths else []
    covered = table.offsets() if table.snapshot() else []
    seen = {int(p): (int(n), int(d), int(lo), int(hi)) for p, n, d, lo, hi in rows}
    for p, end in enumerate(covered):
        n, distinct, lo, hi = seen.pop(p, (0, 0, 0, -1))
        assert n == distinct == end and (n == 0 or (lo, hi) == (0, end - 1)), (
            "partition %d: %d rows, %d offsets from %d to %d; covered up to %d" % (p, n, distinct, lo, hi, end))
    assert not seen, seen
    assert sum(f["record_count"] for f in table.files()) == sum(covered)
    return sum(covered)
