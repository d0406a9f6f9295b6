"""Files that pyiceberg plans to read of tables that Weir divided, against the rows that are in them.

    partitions.py FOLDER TABLE:FILTER…

For each filter: the rows it gives, the files planned, the files that have such rows, and all files, as JSON.
"""
import glob, json, sys

import pyarrow.parquet as pq
from pyiceberg.expressions.parser import parse
from pyiceberg.io.pyarrow import schema_to_pyarrow
from pyiceberg.table import StaticTable

out = []
for what in sys.argv[2:]:
    name, row_filter = what.split(":", 1)
    files = glob.glob("%s/weir/%s/metadata/v*.metadata.json" % (sys.argv[1], name))
    t = StaticTable.from_metadata(max(files, key=lambda n: int(n.split("/v")[-1].split(".")[0])))
    planned = {f.file.file_path for f in t.scan(row_filter=row_filter).plan_files()}
    rows = t.scan(row_filter=row_filter).to_arrow()
    every = t.scan().to_arrow()
    have = set()
    for f in t.scan().plan_files():
        one = pq.read_table(f.file.file_path.replace("file://", "", 1), columns=["partition", "offset"]).to_pylist()
        keys = {(r["partition"], r["offset"]) for r in one}
        if keys & {(r["partition"], r["offset"]) for r in rows.select(["partition", "offset"]).to_pylist()}:
            have.add(f.file.file_path)
    out.append([rows.num_rows, len(planned), len(have & planned), len(have), every.num_rows, sorted(
        len({f.file.spec_id for f in t.scan().plan_files()}) for _ in [0])[0]])
print(json.dumps(out))
