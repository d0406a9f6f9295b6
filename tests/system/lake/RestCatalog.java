/* Iceberg's own REST catalog, as its tests run it: RESTCatalogAdapter over a JDBC catalog in an SQLite file,
 * tables in a folder. Arguments: the folder, a client's id and secret. Calls need the token that the client
 * gets for them; tokens are good for the number of calls given, then 401. Prints its port. */
import java.util.Map;
import java.util.concurrent.atomic.AtomicInteger;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import org.apache.hadoop.conf.Configuration;
import org.apache.iceberg.jdbc.JdbcCatalog;
import org.apache.iceberg.rest.RESTCatalogAdapter;
import org.apache.iceberg.rest.RESTCatalogServlet;
import org.eclipse.jetty.ee10.servlet.ServletContextHandler;
import org.eclipse.jetty.ee10.servlet.ServletHolder;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.server.ServerConnector;

public class RestCatalog {
    public static void main(String[] args) throws Exception {
        JdbcCatalog tables = new JdbcCatalog();
        tables.setConf(new Configuration());
        tables.initialize("tables", Map.of("uri", "jdbc:sqlite:" + args[0] + "/catalog.db", "warehouse", "file://" + args[0],
            "jdbc.schema-version", "V1", "clients", "1"));
        String wanted = "Bearer client-credentials-token:sub=" + args[1];
        int calls = Integer.parseInt(args[2]);
        AtomicInteger left = new AtomicInteger(), given = new AtomicInteger(), refused = new AtomicInteger();
        RESTCatalogServlet servlet = new RESTCatalogServlet(new RESTCatalogAdapter(tables)) {
            @Override
            protected void service(HttpServletRequest q, HttpServletResponse a)
                    throws java.io.IOException, jakarta.servlet.ServletException {
                boolean forToken = q.getPathInfo().endsWith("/oauth/tokens");
                if (q.getPathInfo().equals("/counts")) {
                    a.getWriter().print("{\"tokens\":" + given + ",\"refused\":" + refused + "}");
                    return;
                }
                if (forToken) {
                    given.incrementAndGet();
                    left.set(calls);
                } else if (!wanted.equals(q.getHeader("Authorization")) || left.getAndDecrement() <= 0) {
                    refused.incrementAndGet();
                    a.setStatus(401);
                    a.getWriter().print("{\"error\":{\"message\":\"no token, or an old one\",\"type\":\"NotAuthorizedException\",\"code\":401}}");
                    return;
                }
                super.service(q, a);
            }
        };
        ServletContextHandler context = new ServletContextHandler();
        context.addServlet(new ServletHolder(servlet), "/*");
        Server server = new Server(new java.net.InetSocketAddress("127.0.0.1", 0));
        server.setHandler(context);
        server.start();
        System.out.println(((ServerConnector) server.getConnectors()[0]).getLocalPort());
        server.join();
    }
}
