import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;

class WithHikari {
    static int order(Connection connection, int amount) throws SQLException {
        String sql = "INSERT INTO orders (amount) VALUES (?) RETURNING amount";
        try (PreparedStatement statement = connection.prepareStatement(sql)) {
            statement.setInt(1, amount);
            try (ResultSet rows = statement.executeQuery()) {
                rows.next();
                return rows.getInt(1);
            }
        }
    }

    public static void main(String[] arguments) throws Exception {
        // RECIPE
        Connection known = pool.getConnection();
        order(known, 1);
        System.out.println("ready");
        System.in.read();
        // What it opened ahead goes, so that the next one is opened now.
        pool.getHikariPoolMXBean().softEvictConnections();
        Connection added = pool.getConnection();
        System.out.println(order(known, 2) + order(added, 3));
        System.exit(0);
    }
}
