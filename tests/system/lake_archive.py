"""Old files of a table in its archive: on a folder, and on S3 with a storage class of their own."""
import json, os

import iceberg, s3
from harness import scratch, served, weir
from kafka_cli import produce

OLD = 1728043200000  # 2024-10-04


def check(place, s, d):
    lines = "".join(json.dumps({"value": json.dumps({"n": i}), "timestamp": OLD + i * 3600000}) + "\n" for i in range(50))
    weir("topics", "create", "old", "--set", "lake.enable=true", "--set", "lake.partition=day(timestamp)", "--set",
         "lake.max.seconds=3600", "--set", "retention.ms=-1", "--set", "lake.archive.after.ms=864000000", server=s)
    produce(s, "old", lines, "--json")
    produce(s, "old", '{"value":"{\\"n\\":1000}"}\n', "--json")
    for job in ("flush", "expire"):
        weir("lake", job, "old", server=s)
    table, duck = iceberg.Table(place, "old"), iceberg.Duck()
    assert iceberg.exactly_once(duck, table, d) == 51
    assert duck.rows("SELECT sum(n), count(*) FROM %s" % iceberg.files_sql(table.local(d))) == [("2225", "51")]
    duck.close()
    status, _, body = s.call("DELETE", "/topics/old/records")
    assert status in (200, 204), body
    status, _, body = s.call("POST", "/sql", json.dumps({"query": "SELECT sum(n)::BIGINT FROM old"}))
    assert status == 200 and json.loads(body)["rows"] == [[2225]], body
    names = [f["file_path"] for f in table.files()]
    archived = [n for n in names if "/data/cold/" in n]
    assert len(archived) == 3 and len(names) == 4, names
    return names, archived


SETTINGS = ("--set", "lake.archive.folder=cold", "--set", "lake.archive.storage_class=GLACIER_IR")


def test_lake_archive():
    with served(*SETTINGS, kafka=0) as s, scratch() as d:
        check(iceberg.Folder(os.path.join(s.data, "lake")), s, d)


def on_s3(endpoint, prefix, classes):
    old = dict(os.environ)
    os.environ.update(s3.environment(endpoint))
    try:
        place = iceberg.Bucket(endpoint, prefix)
        with served("--set", "lake.url=" + place.url(), *SETTINGS, kafka=0) as s, scratch() as d:
            names, archived = check(place, s, d)
        for n in names:
            status, headers, _ = s3.signed(endpoint, "HEAD", place.path(n))
            assert status == 200, n
            got = {k.lower(): v for k, v in dict(headers).items()}.get("x-amz-storage-class")
            assert not classes or got == ("GLACIER_IR" if n in archived else None), (n, got)
    finally:
        os.environ.clear()
        os.environ.update(old)


def test_lake_archive_s3():
    with s3.small() as endpoint:
        on_s3(endpoint, "archive", True)


def test_lake_archive_seaweed():
    with s3.seaweed() as endpoint:
        on_s3(endpoint, "archive", False)
