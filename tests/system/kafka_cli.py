"""The command line beside Kafka's protocol: weir topics --describe."""
import json, re

from harness import served, weir


def test_cli_topics_describe():
    with served() as s:
        weir("topics", "create", "d1", "--partitions", "3", "--set", "retention.ms=3600000", server=s)
        weir("topics", "create", "d2", server=s)
        for i in range(5):
            weir("emit", "d.x", "--stream", "d1:k", str(i), server=s)
        out = weir("topics", "describe", "d1", server=s).stdout.decode()
        assert out.startswith("d1: 3 partitions, 5 records, "), out
        assert "  retention.ms=3600000\n" in out, out
        rows = re.findall(r"^ +(\d+) +(\d+) +(\d+) +(\d+) +(\d+)$", out, re.M)
        assert [r[0] for r in rows] == ["0", "1", "2"], out
        assert sorted(r[1:4] for r in rows) == [("0", "0", "0"), ("0", "0", "0"), ("0", "5", "5")], out
        assert weir("topics", "--describe", "d1", server=s).stdout.decode() == out
        both = weir("topics", "--describe", server=s).stdout.decode()
        assert out in both and "d2: 1 partition, 0 records" in both, both
        j = json.loads(weir("topics", "describe", "d1", "--json", server=s).stdout)
        assert j["partitions"] == 3 and sorted(p["end"] for p in j["partition_offsets"]) == [0, 0, 5], j
        j = json.loads(weir("topics", "--describe", "--json", server=s).stdout)
        assert [t["name"] for t in j] == ["d1", "d2"] and len(j[0]["partition_offsets"]) == 3, j
        p = weir("topics", "--describe", "none", server=s, ok=False)
        assert p.returncode == 1 and b"404" in p.stderr and not p.stdout, p
