/* PostgreSQL's JDBC driver, unmodified: Jdbc PORT QUERY prints the rows as JSON. Metadata, parameters, and rows
 * fetched in parts within a transaction. */
import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.List;

public class Jdbc {
    static void check(boolean ok, String what) {
        if (!ok)
            throw new AssertionError(what);
    }

    static void metadata(Connection c) throws SQLException {
        DatabaseMetaData m = c.getMetaData();
        List<String> names = new ArrayList<>();

        try (ResultSet r = m.getTables(null, "public", "%", new String[] {"TABLE"})) {
            while (r.next())
                names.add(r.getString("TABLE_NAME"));
        }
        check(names.contains("orders"), "tables: " + names);
        names.clear();
        try (ResultSet r = m.getColumns(null, "public", "orders", "%")) {
            while (r.next())
                names.add(r.getString("COLUMN_NAME") + " " + r.getString("TYPE_NAME"));
        }
        check(names.contains("amount float8") && names.contains("id int8"), "columns: " + names);
    }

    /* What tools that know no dialect ask. */
    static void more(Connection c) throws SQLException {
        DatabaseMetaData m = c.getMetaData();

        for (ResultSet r : new ResultSet[] {m.getPrimaryKeys(null, "public", "orders"), m.getImportedKeys(null, "public", "orders"),
                m.getExportedKeys(null, "public", "orders"), m.getIndexInfo(null, "public", "orders", false, true),
                m.getBestRowIdentifier(null, "public", "orders", 2, true),
                m.getUDTs(null, null, "%", null)}) {
            check(!r.next(), "there is none");
            r.close();
        }
        m.getProcedures(null, null, "%").close();
        m.getFunctions(null, null, "%").close();
        for (ResultSet r : new ResultSet[] {m.getCatalogs(), m.getSchemas(), m.getTypeInfo(), m.getTableTypes(), m.getTablePrivileges(null, "public", "orders"),
                m.getColumnPrivileges(null, "public", "orders", "%"), m.getVersionColumns(null, "public", "orders")}) {
            check(r.next(), "there are some");
            r.close();
        }
        check(m.getSQLKeywords() != null && m.getDefaultTransactionIsolation() > 0 && m.getMaxColumnsInIndex() > 0, "settings");
        try (PreparedStatement p = c.prepareStatement("SELECT count(*), ? FROM orders WHERE id = ANY(?)")) {
            p.setString(1, "x");
            p.setArray(2, c.createArrayOf("int8", new Object[] {1L, 2L, null}));
            for (int i = 0; i < 7; i++)
                try (ResultSet r = p.executeQuery()) {
                    check(r.next() && r.getLong(1) == 2 && r.getString(2).equals("x"), "a list");
                }
        }
    }

    static void parts(Connection c) throws SQLException {
        long n = 0;

        c.setAutoCommit(false);
        try (Statement s = c.createStatement()) {
            s.setFetchSize(37);
            try (ResultSet r = s.executeQuery("SELECT range FROM range(100000)")) {
                while (r.next())
                    check(r.getLong(1) == n++, "row " + n);
            }
        }
        c.commit();
        c.setAutoCommit(true);
        check(n == 100000, n + " rows");
    }

    static void parameters(Connection c) throws SQLException {
        try (PreparedStatement p = c.prepareStatement("SELECT count(*) FROM orders WHERE id > ? AND status = ?")) {
            for (int i = 0; i < 10; i++) { /* from the fifth time on in binary */
                p.setLong(1, 150);
                p.setString(2, "completed");
                try (ResultSet r = p.executeQuery()) {
                    check(r.next() && r.getLong(1) == 50, "count");
                }
            }
        }
    }

    public static void main(String[] a) throws SQLException {
        StringBuilder out = new StringBuilder("[");

        try (Connection c = DriverManager.getConnection("jdbc:postgresql://127.0.0.1:" + a[0] + "/weir", "x", "")) {
            metadata(c);
            more(c);
            parameters(c);
            parts(c);
            try (Statement s = c.createStatement(); ResultSet r = s.executeQuery(a[1])) {
                while (r.next())
                    out.append(out.length() > 1 ? "," : "").append("[").append(r.getLong(1)).append(",\"")
                        .append(r.getString(2)).append("\",").append(r.getDouble(3)).append("]");
            }
        }
        System.out.println(out.append("]"));
    }
}
