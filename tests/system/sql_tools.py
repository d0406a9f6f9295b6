"""What tools ask PostgreSQL's catalogue by themselves, over the real binary: psql's backslash commands, the questions of
Grafana's query builder, DBeaver and Metabase (in their form), SQLAlchemy's inspector and JDBC's metadata (when WEIR_CLIENTS
names python, java or all), and lists as parameters.
"""
import json, os, pty, re, signal, subprocess, sys

from harness import WEIR, npm_modules, served
from kafka_clients import download, downloads
from sql_clients import HERE, need, post, psql

COMMANDS = r"""\d \d+ \dt \dt+ \dS \l \l+ \df \df+ \dn \dn+ \dv \di \ds \dm \du \du+ \dp \z \dT \dT+ \dTS \da \do \dC \dL \dx \dy
\db \db+ \dE \dD \dF \dFd \dFp \dFt \des \det \dew \deu \dRp \dRs \dO \dc \ddp \drds \dX \dP \dA \dAc \dAf \dAo \dAp \dd \dl
\dconfig \conninfo \encoding""".split()

# Grafana's: which schemas need not be named, as the session's search_path says.
PATH = """quote_ident(table_schema) IN (SELECT CASE WHEN trim(p[i]) = '"$user"' THEN user ELSE trim(p[i]) END
  FROM generate_series(array_lower(string_to_array(current_setting('search_path'),','),1),
                       array_upper(string_to_array(current_setting('search_path'),','),1)) as i,
       string_to_array(current_setting('search_path'),',') p)"""
TABLES = """SELECT CASE WHEN %s THEN quote_ident(table_name) ELSE quote_ident(table_schema) || '.' || quote_ident(table_name) END
  AS "table" FROM information_schema.tables WHERE quote_ident(table_schema) NOT IN ('information_schema', 'pg_catalog')
  ORDER BY CASE WHEN %s THEN 0 ELSE 1 END, 1""" % (PATH, PATH)
COLUMNS = """SELECT quote_ident(column_name) AS "column", data_type AS "type" FROM information_schema.columns
  WHERE CASE WHEN array_length(parse_ident('TABLE'),1) = 2 THEN quote_ident(table_schema) = (parse_ident('TABLE'))[1]
    AND quote_ident(table_name) = (parse_ident('TABLE'))[2] ELSE quote_ident(table_name) = 'TABLE' AND """ + PATH + " END"

ORDERS = "(SELECT oid FROM pg_class WHERE relname = 'orders')"
# The question, and what its answer has in it (lines in any order, columns divided by |); None: no rows.
QUESTIONS = [
    (TABLES, ['"eu-1.shop"', "orders"]),
    (COLUMNS.replace("TABLE", "orders"), ["id|bigint", '"offset"|bigint', "timestamp|timestamp with time zone", "headers|ARRAY"]),
    (COLUMNS.replace("TABLE", '"eu-1.shop"'), ["id|bigint"]),
    (COLUMNS.replace("TABLE", "public.orders"), ["id|bigint"]),
    ("SELECT schema_name FROM information_schema.schemata WHERE schema_name NOT IN ('information_schema', 'pg_catalog')", ["public"]),
    # DBeaver
    ("SELECT db.oid, db.datname FROM pg_catalog.pg_database db WHERE datallowconn AND NOT datistemplate OR db.datname = 'weir'", ["5|weir"]),
    ("SELECT string_agg(word, ',') FROM pg_catalog.pg_get_keywords() WHERE word <> ALL ('{a,abs}'::text[]) AND word < 'd'", ["analyse,analyze,asc"]),
    ("SELECT n.nspname, d.description FROM pg_catalog.pg_namespace n LEFT JOIN pg_catalog.pg_description d ON d.objoid = n.oid "
     "AND d.objsubid = 0 AND d.classoid = 'pg_namespace'::regclass", ["public|", "pg_catalog|"]),
    ("SELECT c.relname, a.attname, a.atttypid, a.attnum, pg_catalog.pg_get_expr(ad.adbin, ad.adrelid, true) FROM pg_catalog.pg_attribute a "
     "JOIN pg_catalog.pg_class c ON a.attrelid = c.oid LEFT JOIN pg_catalog.pg_attrdef ad ON a.attrelid = ad.adrelid AND a.attnum = ad.adnum "
     "WHERE NOT a.attisdropped AND c.relkind NOT IN ('i','I','c') AND c.oid = " + ORDERS, ["orders|topic|25|1|", "orders|headers|199|8|"]),
    ("SELECT t.typname, format_type(nullif(t.typbasetype, 0), t.typtypmod), et.typname FROM pg_catalog.pg_type t LEFT JOIN "
     "pg_catalog.pg_type et ON et.oid = t.typelem LEFT JOIN pg_catalog.pg_class c ON c.oid = t.typrelid WHERE c.relkind IS NULL",
     ["int8||", "_int8||int8", "_timestamptz||timestamptz"]),
    ("SELECT pg_catalog.pg_total_relation_size(c.oid) > 100, pg_relation_size('public.orders') = pg_table_size('orders'::regclass) "
     "FROM pg_class c WHERE c.relname = 'orders'", ["t|t"]),
    ("SELECT conname FROM pg_constraint WHERE conrelid = 'orders'::regclass", None),
    ("SELECT i.indkey, (information_schema._pg_expandarray(i.indkey)).n FROM pg_catalog.pg_index i WHERE i.indrelid = " + ORDERS, None),
    # Metabase
    ("SELECT n.nspname AS schema, c.relname AS name, stat.n_live_tup FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n "
     "ON c.relnamespace = n.oid LEFT JOIN pg_stat_user_tables AS stat ON n.nspname = stat.schemaname AND c.relname = stat.relname "
     "WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND c.relkind IN ('r','p','v','f','m')",
     ["public|orders|7", "public|eu-1.shop|1"]),
    ("SELECT c.column_name, c.udt_name, pk.column_name IS NOT NULL, COL_DESCRIPTION(CAST(CAST(FORMAT('%I.%I', CAST(c.table_schema AS "
     "TEXT), CAST(c.table_name AS TEXT)) AS REGCLASS) AS OID), c.ordinal_position) FROM information_schema.columns AS c LEFT JOIN "
     "(SELECT tc.table_name, kc.column_name FROM information_schema.table_constraints AS tc JOIN information_schema.key_column_usage "
     "AS kc ON tc.constraint_name = kc.constraint_name WHERE tc.constraint_type = 'PRIMARY KEY') AS pk ON c.table_name = pk.table_name "
     "AND c.column_name = pk.column_name WHERE c.table_schema !~ '^information_schema|catalog_history|pg_' AND c.table_name = 'orders'",
     ["id|int8|f|", "amount|float8|f|"]),
    ("SELECT t.schemaname, t.objectname, pg_catalog.has_table_privilege(current_user, '\"' || t.schemaname || '\"', 'SELECT') FROM (SELECT "
     "schemaname, tablename AS objectname FROM pg_catalog.pg_tables UNION SELECT schemaname, viewname FROM pg_catalog.pg_views UNION "
     "SELECT schemaname, matviewname FROM pg_catalog.pg_matviews) t WHERE t.schemaname !~ '^pg_'", ["public|orders|t"]),
    # names, sessions, what looks like PostgreSQL's and is not
    ("SELECT 'orders'::regclass = %s, '\"eu-1.shop\"'::regclass = 'public.\"eu-1.shop\"'::regclass" % ORDERS, ["t|t"]),
    ("SELECT oid::regclass FROM pg_class", ["orders", "eu-1.shop"]),
    ("SELECT to_regclass('orders') = %s, to_regclass('nothing') IS NULL, to_regtype('int8'), 'text'::regtype::oid" % ORDERS, ["t|t|20|25"]),
    ("SELECT current_user, current_database(), user, current_schema()", ["x|weir|x|public"]),
    ("SELECT current_schema FROM current_schema()", ["public"]),
    ("SELECT setting FROM pg_settings WHERE name = 'search_path'", ["public"]),
    ("SELECT table_name FROM weir.information_schema.tables WHERE table_schema = ANY (current_schemas(false))", ["orders"]),
    ("SELECT count(*) FROM weir.public.orders", ["7"]),
    ("SELECT relname FROM pg_class WHERE relname ~* 'ORD'", ["orders"]),
    ("SELECT extract(epoch FROM timestamp) > 0, status ~ 'pen', status ~ 'open' FROM orders WHERE id = 1", ["t|f|t"]),
    ("SELECT a IS DISTINCT FROM current_user FROM (SELECT 'x' AS a)", ["f"]),
    ("SELECT user, format('{}%', 5) FROM (SELECT 7 AS user)", ["7|5%"]),
    ("SELECT json_build_object('a', 1, 'b', '{2}'::int[])", ['{"a":1,"b":[2]}']),
]


def fill(s):
    post(s, 0, 7)
    assert s.call("POST", "/events", json.dumps({"type": "x.y", "stream": "eu-1.shop", "data": {"id": 1}}))[0] == 201


def test_sql_tools():
    """psql's backslash commands, and the questions of tools: none fails, and each has what is there."""
    need("psql")
    with served(pgwire=0) as s:
        fill(s)
        p = psql(s, "-At", *[x for c in COMMANDS for x in ("-c", c)], ok=False)
        assert b"ERROR" not in p.stderr, p.stderr
        assert re.search(rb"public\|orders\|table\|weir\|permanent\|\|\d", psql(s, "-At", "-c", "\\dt+").stdout)
        mark = "SELECT '=' || '='"
        p = psql(s, "-At", "-v", "ON_ERROR_STOP=0", *[x for q, _ in QUESTIONS for x in ("-c", q, "-c", mark)], ok=False)
        answers = p.stdout.decode().split("==\n")
        assert len(answers) == len(QUESTIONS) + 1, len(answers)
        for (question, want), answer in zip(QUESTIONS, answers):
            lines = answer.split("\n")[:-1]
            assert want is None and not lines or want and set(want) <= set(lines), (question, lines[:20], p.stderr)
        head = psql(s, "-A", "-c", "SELECT version(), current_schemas(true), oid::regclass, c.oid AS n FROM pg_class c").stdout
        assert head.splitlines()[0] == b"version|current_schemas|oid|n", head


def test_sql_prompt():
    """weir sql at a terminal: help, \\d, a statement of several lines, a mistake, exit; lines are remembered."""
    with served() as s:
        fill(s)
        history = s.data + ".history"
        pid, fd = pty.fork()
        if pid == 0:
            os.execve(WEIR, [WEIR, "sql"], dict(os.environ, WEIR_SERVER=s.url, WEIR_SQL_HISTORY=history, TERM="dumb"))
        seen = b""

        def until(mark):
            nonlocal seen
            while mark not in seen:
                seen += os.read(fd, 65536)
            answer, _, seen = seen.partition(mark)
            return answer.decode()

        def say(line, mark=b"weir=> "):
            os.write(fd, line.encode() + b"\n")
            return until(mark)

        try:
            assert "help" in until(b"weir=> ")
            assert "columns of a topic" in say("help")
            topics = say("\\d")
            assert "eu-1.shop" in topics and "partitions" in topics and "topic_id" not in topics, topics
            for name in ("eu-1.shop", '"eu-1.shop"'):
                columns = say("\\d " + name)
                assert "BIGINT" in columns and "extra" not in columns, columns
            say("select count(*) as n", b"...> ")
            assert "│ 7 │" in say("from orders;")
            wrong = say("selec 1;")
            assert "syntax error" in wrong and "^" in wrong, wrong
            os.write(fd, b"exit\n")
            assert os.waitpid(pid, 0)[1] == 0
            pid = 0
            with open(history) as f:
                remembered = f.read()
            # libedit writes spaces so
            assert "from orders;\n" in remembered.replace("\\040", " "), remembered
        finally:
            os.close(fd)
            if pid:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


LISTS = """const [modules, port] = process.argv.slice(1), c = new (require(modules + '/pg').Client)({ host: '127.0.0.1', port: +port, user: 'x' });
(async () => {
  await c.connect();
  const one = async (q, v) => Object.values((await c.query(q, v)).rows[0])[0];
  console.log(await one('SELECT count(*) FROM orders WHERE id = ANY($1)', [[1, 2, 99]]),
    await one('SELECT count(*) FROM orders WHERE id <> ALL($1::int[])', [[1, 2]]),
    await one('SELECT count(*) FROM orders WHERE status = ANY($1)', [['open', null, 'a "b"']]),
    JSON.stringify(await one("SELECT '{a,b}'::text[]")), (await c.query('SELECT $1 AS x, id FROM orders WHERE id = $2', ['y', 3])).rows[0].id);
  await c.end();
})().catch((e) => { console.error(e); process.exit(1); });"""


def test_sql_lists():
    """Lists as parameters, of which node's pg does not say the type."""
    need("node")
    with served(pgwire=0) as s:
        post(s, 0, 7)
        p = subprocess.run(["node", "-e", LISTS, npm_modules(), str(s.pgwire)], capture_output=True, timeout=60)
        assert p.stdout.decode().split() == ["2", "5", "4", '["a","b"]', "3"], (p.stdout, p.stderr.decode())


def python(script, *args):
    """Runs it with the clients of PyPI; it prints ok."""
    d = downloads("python")
    venv = os.path.join(d, "sql")
    need_file = os.path.join(HERE, "requirements.txt")
    download("Python's clients", [sys.executable, "-m", "pip", "install", "--quiet", "--target", venv, "--upgrade", "-r", need_file],
             os.path.join(d, "sql.stamp"), need_file)
    p = subprocess.run([sys.executable, os.path.join(HERE, script), *args], capture_output=True, timeout=120,
                       env=dict(os.environ, PYTHONPATH=venv))
    assert p.returncode == 0 and p.stdout == b"ok\n", p.stdout.decode() + p.stderr.decode()


def test_sql_alchemy():
    """SQLAlchemy reflects the topics over psycopg and pg8000; lists in text and binary with each driver."""
    downloads("python")
    with served(pgwire=0) as s:
        fill(s)
        python("reflect.py", str(s.pgwire))


def test_sql_arrow():
    """Arrow IPC of every type, as pyarrow reads it."""
    downloads("python")
    with served() as s:
        post(s, 0, 301)
        python("arrow.py", s.url)
