/* Spark with Iceberg's runtime: a statement on each line of standard input, answered by one line of JSON: its rows, or
 * {"error": "…"}. Arguments: URI of a REST catalog ("rest"), its token, and a folder of tables ("bare"). */
import java.io.BufferedReader;
import java.io.InputStreamReader;
import org.apache.spark.sql.SparkSession;

public class Spark {
    public static void main(String[] args) throws Exception {
        String rest = "spark.sql.catalog.rest", bare = "spark.sql.catalog.bare", plugin = "org.apache.iceberg.spark.SparkCatalog";
        SparkSession spark = SparkSession.builder().master("local[1]").appName("weir")
            .config("spark.ui.enabled", "false").config("spark.driver.host", "127.0.0.1")
            .config("spark.driver.bindAddress", "127.0.0.1").config("spark.sql.shuffle.partitions", "1")
            .config("spark.sql.session.timeZone", "UTC").config("spark.sql.warehouse.dir", args[2] + "/spark")
            .config("spark.sql.extensions", "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions")
            .config(rest, plugin).config(rest + ".type", "rest").config(rest + ".uri", args[0]).config(rest + ".token", args[1])
            .config(rest + ".cache-enabled", "false")
            .config(bare, plugin).config(bare + ".type", "hadoop").config(bare + ".warehouse", "file://" + args[2])
            .config(bare + ".cache-enabled", "false")
            .getOrCreate();
        System.out.println("ready");
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            try {
                System.out.println(spark.sql(line).toJSON().collectAsList());
            } catch (Exception e) {
                System.out.println("{\"error\": \"" + e.toString().replaceAll("[^A-Za-z0-9 .,:_-]", " ") + "\"}");
            }
        }
        spark.stop();
    }
}
