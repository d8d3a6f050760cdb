import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.StringReader;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.sql.BatchUpdateException;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.SQLWarning;
import java.sql.Savepoint;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Properties;
import java.util.TreeMap;
import java.util.concurrent.CompletableFuture;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.PGStatement;
import org.postgresql.largeobject.LargeObject;
import org.postgresql.largeobject.LargeObjectManager;
import org.postgresql.util.PSQLException;
import org.postgresql.util.PSQLWarning;
import org.postgresql.util.ServerErrorMessage;

/** The JDBC driver: fetch sizes are portals, large objects go by FunctionCall, Flush without Sync in batches. */
final class WithJdbc {
    static final URI DSN = URI.create(System.getenv("DSN"));
    static final String SCHEMA = System.getenv("SCHEMA");
    static final String CA_FILE = System.getenv("CA_FILE");
    static final int MEGABYTE = 1 << 20;

    interface Action {
        void run() throws Exception;
    }

    static void show(String name, Object... values) {
        System.out.println((name + ": " + Arrays.deepToString(values)).replace("\n", "\\n"));
    }

    static List<String> linesOf(String file) throws Exception {
        return Files.readAllLines(Path.of(file));
    }

    static String md5(byte[] data) throws Exception {
        StringBuilder text = new StringBuilder();
        for (byte b : MessageDigest.getInstance("MD5").digest(data)) {
            text.append(String.format("%02x", b));
        }
        return text.toString();
    }

    static Connection connect(String... settings) throws SQLException {
        return connectTo(DSN.getPath(), settings);
    }

    static Connection connectTo(String database, String... settings) throws SQLException {
        String[] user = DSN.getUserInfo().split(":", 2);
        Properties all = new Properties();
        all.putAll(new TreeMap<>(java.util.Map.of("user", user[0], "password", user[1], "sslmode", "disable", "currentSchema", SCHEMA)));
        for (int n = 0; n < settings.length; n += 2) {
            all.setProperty(settings[n], settings[n + 1]);
        }
        return DriverManager.getConnection("jdbc:postgresql://" + DSN.getHost() + ":" + DSN.getPort() + database, all);
    }

    static String told(ServerErrorMessage said) {
        return String.join("|", said.getSeverity(), said.getSQLState(), said.getMessage(), "" + said.getDetail(), "" + said.getHint(),
            "" + said.getPosition(), "" + said.getInternalPosition(), "" + said.getInternalQuery(), "" + said.getWhere(),
            "" + said.getSchema(), "" + said.getTable(), "" + said.getColumn(), "" + said.getDatatype(), "" + said.getConstraint(),
            "" + said.getFile(), "" + said.getLine(), "" + said.getRoutine());
    }

    static PSQLException errorOf(Action action) throws Exception {
        try {
            action.run();
        } catch (PSQLException refused) {
            return refused;
        }
        throw new AssertionError("an error was expected");
    }

    static String refusal(Action action) throws Exception {
        return told(errorOf(action).getServerErrorMessage());
    }

    static String all(ResultSet rows) throws SQLException {
        StringBuilder text = new StringBuilder();
        while (rows.next()) {
            for (int n = 1; n <= rows.getMetaData().getColumnCount(); n++) {
                text.append(rows.getString(n)).append(n < rows.getMetaData().getColumnCount() ? "," : ";");
            }
        }
        rows.close();
        return text.toString();
    }

    static String one(Connection connection, String sql, Object... values) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement(sql)) {
            for (int n = 0; n < values.length; n++) {
                statement.setObject(n + 1, values[n]);
            }
            return all(statement.executeQuery());
        }
    }

    static void types() throws Exception {
        // At once by named statements with binary results, and by simple queries with text.
        for (String mode : List.of("extended", "simple", "extendedForPrepared")) {
            try (Connection connection = connect("preferQueryMode", mode, "prepareThreshold", "-1")) {
                for (String expression : linesOf("types.txt")) {
                    try (PreparedStatement statement = connection.prepareStatement("select " + expression.replace("?", "??"))) {
                        for (int n = 0; n < 2; n++) {
                            ResultSet rows = statement.executeQuery();
                            rows.next();
                            byte[] raw = rows.getBytes(1);
                            // A binary bytea as a string is the name of a Java object.
                            String text = rows.getObject(1) instanceof byte[] ? "bytes" : rows.getString(1);
                            String type = rows.getMetaData().getColumnTypeName(1).replace("\"" + SCHEMA + "\".", "");
                            show(mode + " " + expression, type, text, raw == null ? null : md5(raw));
                        }
                    }
                }
                show(mode + " parameters", one(connection, "select ?, ?, ?, ?::text", 7L, 1.5, "zażółć 𝄞", null));
            }
        }
    }

    static void parameters(Connection connection) throws Exception {
        for (int count : new int[] {2000, 65535}) {
            String places = "?::int4" + ",?::int4".repeat(count - 1);
            Integer[] numbers = new Integer[count];
            Arrays.setAll(numbers, n -> n);
            show(count + " parameters", one(connection, "select sum(n) from unnest(array[" + places + "]) n", (Object[]) numbers));
        }
        try (PreparedStatement insert = connection.prepareStatement("insert into copied values (?, ?, ?)")) {
            for (int n = 0; n < 5000; n++) {
                insert.setInt(1, n);
                insert.setString(2, "row " + n);
                insert.setBytes(3, new byte[] {(byte) n});
                insert.addBatch();
            }
            show("batch", Arrays.stream(insert.executeBatch()).sum());
        }
        try (Statement batch = connection.createStatement()) {
            for (int n : new int[] {500, 501, 500, 502}) {
                batch.addBatch("insert into parent values (" + n + ")");
            }
            batch.executeBatch();
        } catch (BatchUpdateException refused) {
            show("batch with an error", refused.getUpdateCounts(), refused.getSQLState());
        }
        show("after the batch", one(connection, "select id from parent where id > 3"));
        show("with keys", keys(connection));
        one(connection, "delete from parent where id > 3 returning id");
        one(connection, "delete from copied returning id");
    }

    static String keys(Connection connection) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            statement.executeUpdate("insert into parent values (600), (601)", Statement.RETURN_GENERATED_KEYS);
            return all(statement.getGeneratedKeys());
        }
    }

    static void prepared(Connection connection) throws Exception {
        try (PreparedStatement statement = connection.prepareStatement("select ?::int + 1")) {
            statement.unwrap(PGStatement.class).setPrepareThreshold(3);
            for (int n = 0; n < 8; n++) {
                statement.setInt(1, n);
                show("prepared", all(statement.executeQuery()), statement.unwrap(PGStatement.class).isUseServerPrepare());
            }
            show("on the server", one(connection, "select parameter_types::text from pg_prepared_statements where statement like '%+ 1'"));
            show("described", statement.getParameterMetaData().getParameterTypeName(1), statement.getMetaData().getColumnTypeName(1));
            one(connection, "select 1");
            try (Statement other = connection.createStatement()) {
                other.execute("deallocate all");
            }
            show("deallocated", all(statement.executeQuery()));
        }
    }

    static void portals(Connection connection) throws Exception {
        connection.setAutoCommit(false);
        try (Statement statement = connection.createStatement(); Statement second = connection.createStatement()) {
            statement.setFetchSize(7);
            second.setFetchSize(3);
            ResultSet rows = statement.executeQuery("select generate_series(1, 1000)");
            ResultSet others = second.executeQuery("select generate_series(1, 10)");
            long sum = 0;
            while (rows.next()) {
                sum += rows.getInt(1) + (others.next() ? 1000000 : 0);
            }
            show("portals side by side", sum);
            ResultSet left = statement.executeQuery("select generate_series(1, 1000)");
            left.next();
            left.close();
            show("left early", one(connection, "select 'usable'"));
        }
        connection.rollback();
        connection.setAutoCommit(true);
    }

    static void copies(Connection connection) throws Exception {
        var copy = connection.unwrap(PGConnection.class).getCopyAPI();
        StringBuilder lines = new StringBuilder();
        for (int n = 0; n < 20000; n++) {
            lines.append(n).append("\tnaïve ").append(n).append("\t\\\\x").append(String.format("%02x", n % 256)).append('\n');
        }
        show("copy in", copy.copyIn("copy copied from stdin", new StringReader(lines.toString())));
        for (String format : List.of("text", "csv", "binary")) {
            var out = new ByteArrayOutputStream();
            long count = copy.copyOut("copy (select * from copied order by id) to stdout (format " + format + ")", out);
            show("copy out " + format, count, md5(out.toByteArray()));
            if (format.equals("binary")) {
                show("copy back", copy.copyIn("copy copied from stdin (format binary)", new ByteArrayInputStream(out.toByteArray())));
            }
        }
        show("copy broken", refusal(() -> copy.copyIn("copy copied from stdin", new StringReader("not a number\n"))));
        var abandoned = copy.copyIn("copy copied from stdin");
        byte[] row = "1\tone\t\\\\x00\n".getBytes(StandardCharsets.UTF_8);
        abandoned.writeToCopy(row, 0, row.length);
        abandoned.cancelCopy();
        show("after copies", one(connection, "select count(*) from copied"));
    }

    static void notifications(Connection connection) throws Exception {
        PGConnection own = connection.unwrap(PGConnection.class);
        try (Statement statement = connection.createStatement(); Connection other = connect()) {
            statement.execute("listen " + SCHEMA + "_channel");
            int otherPid = other.unwrap(PGConnection.class).getBackendPID();
            one(other, "select pg_notify(?, 'from another')", SCHEMA + "_channel");
            one(connection, "select pg_notify(?, 'to myself')", SCHEMA + "_channel");
            List<String> heard = new ArrayList<>();
            while (heard.size() < 2) {
                PGNotification[] some = own.getNotifications(30000);
                for (PGNotification one : some) {
                    heard.add(one.getName().equals(SCHEMA + "_channel") + " " + one.getParameter() + " " + (one.getPID() == own.getBackendPID())
                        + " " + (one.getPID() == otherPid));
                }
            }
            show("notifications", heard);
            show("backend pid", one(connection, "select pg_backend_pid() = ?", own.getBackendPID()));
            statement.execute("unlisten *");
        }
    }

    static void largeObjects(Connection connection) throws Exception {
        connection.setAutoCommit(false);
        LargeObjectManager objects = connection.unwrap(PGConnection.class).getLargeObjectAPI();
        long oid = objects.createLO();
        LargeObject object = objects.open(oid, LargeObjectManager.READWRITE);
        byte[] data = new byte[3 * MEGABYTE];
        for (int n = 0; n < data.length; n++) {
            data[n] = (byte) n;
        }
        object.write(data);
        object.seek(10);
        show("large object", object.read(4), object.size(), object.tell64());
        object.seek(0);
        show("large object whole", md5(object.read(data.length)));
        object.truncate(5);
        show("large object truncated", object.size());
        object.close();
        objects.unlink(oid);
        show("large object gone", errorOf(() -> objects.open(oid, LargeObjectManager.READ)).getSQLState());
        connection.rollback();
        connection.setAutoCommit(true);
    }

    static void cancel(Connection connection) throws Exception {
        int pid = connection.unwrap(PGConnection.class).getBackendPID();
        try (Connection watch = connect(); Statement statement = connection.createStatement()) {
            for (int n = 0; n < 5; n++) {
                var slept = CompletableFuture.supplyAsync(() -> {
                    try {
                        return refusal(() -> statement.execute("select pg_sleep(300)"));
                    } catch (Exception unexpected) {
                        throw new IllegalStateException(unexpected);
                    }
                });
                while (one(watch, "select 1 from pg_stat_activity where pid = ? and wait_event = 'PgSleep'", pid).isEmpty()) {
                    Thread.onSpinWait();
                }
                statement.cancel();
                show("cancel", slept.get(), one(connection, "select 'usable'"));
            }
        }
    }

    static void timeout(Connection connection) throws Exception {
        try (Statement statement = connection.createStatement()) {
            statement.setQueryTimeout(1);
            show("query timeout", refusal(() -> statement.execute("select pg_sleep(300)")));
        }
    }

    static void transactions(Connection connection) throws Exception {
        connection.setAutoCommit(false);
        connection.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
        try (Statement statement = connection.createStatement()) {
            statement.execute("insert into parent values (100)");
            Savepoint savepoint = connection.setSavepoint("one");
            show("unique violation", refusal(() -> statement.execute("insert into parent values (100)")));
            show("in a failed transaction", refusal(() -> statement.execute("select 1")));
            connection.rollback(savepoint);
            show("after the savepoint", one(connection, "select id from parent where id > 3"));
            connection.commit();
            connection.setReadOnly(true);
            show("read only", refusal(() -> statement.execute("delete from parent")));
            connection.rollback();
            connection.setReadOnly(false);
            show("removed", statement.executeUpdate("delete from parent where id > 3"));
            connection.commit();
        }
        connection.setAutoCommit(true);
        connection.setTransactionIsolation(Connection.TRANSACTION_READ_COMMITTED);
        try (Connection saving = connect("autosave", "always")) {
            saving.setAutoCommit(false);
            show("autosave", refusal(() -> one(saving, "select 1 / 0")));
            show("goes on", one(saving, "select 'usable'"));
        }
    }

    static void errors(Connection connection) throws Exception {
        try (Statement statement = connection.createStatement()) {
            for (String sql : linesOf("errors.txt")) {
                show("error " + sql, refusal(() -> statement.execute(sql)));
            }
            List<String> results = new ArrayList<>();
            boolean rows = statement.execute("select 1; insert into parent values (900); delete from parent where id = 900; select 'four'");
            while (rows || statement.getUpdateCount() >= 0) {
                results.add(rows ? all(statement.getResultSet()) : "" + statement.getUpdateCount());
                rows = statement.getMoreResults();
            }
            show("several results", results);
            one(connection, "select 1");
            statement.execute("select warn(2)");
            for (SQLWarning warning = statement.getWarnings(); warning != null; warning = warning.getNextWarning()) {
                show("notice", told(((PSQLWarning) warning).getServerErrorMessage()));
            }
        }
    }

    static void bigValues(Connection connection) throws Exception {
        int size = 50 * MEGABYTE;
        String out = one(connection, "select repeat('0123456789abcdef', ?)", size / 16);
        show("50 MB out", out.length(), md5(out.getBytes(StandardCharsets.UTF_8)));
        byte[] data = new byte[size];
        for (int n = 0; n < size; n++) {
            data[n] = (byte) (n % 251);
        }
        try (PreparedStatement statement = connection.prepareStatement("select ?::bytea, md5(?::bytea)")) {
            statement.setBytes(1, data);
            statement.setBinaryStream(2, new ByteArrayInputStream(data), size);
            ResultSet rows = statement.executeQuery();
            rows.next();
            byte[] back = rows.getBytes(1);
            show("50 MB there and back", back.length, md5(back), rows.getString(2));
        }
    }

    static void settings(Connection connection) throws Exception {
        TreeMap<String, String> statuses = new TreeMap<>(connection.unwrap(PGConnection.class).getParameterStatuses());
        statuses.remove("session_authorization");
        show("statuses", statuses);
        connection.setClientInfo("ApplicationName", "renamed");
        show("status after set", connection.unwrap(PGConnection.class).getParameterStatus("application_name"));
        show("version", connection.getMetaData().getDatabaseProductVersion());
        show("tables", all(connection.getMetaData().getTables(null, SCHEMA, "%", new String[] {"TABLE"})));
        try (Connection other = connect("options", "-c geqo=off -c my.own=a\\ b", "ApplicationName", "at startup", "assumeMinServerVersion", "14")) {
            show("startup", one(other, "select current_setting('geqo'), current_setting('my.own'), current_setting('application_name')"));
        }
        show("startup refused", refusal(() -> connect("options", "-c no_such_setting=1")));
        show("no such database", refusal(() -> connectTo("/no_such_database")));
        ServerErrorMessage wrong = errorOf(() -> connect("password", "wrong")).getServerErrorMessage();
        show("wrong password", wrong.getSeverity(), wrong.getSQLState(), wrong.getMessage().split("\"")[0]);
    }

    static void tls() throws Exception {
        List<String> modes = new ArrayList<>(List.of("allow", "prefer", "require"));
        if (CA_FILE == null) {
            show("verify-full", "no CA_FILE, not made");
        } else {
            modes.addAll(List.of("verify-ca", "verify-full"));
        }
        for (String mode : modes) {
            String[] root = mode.startsWith("verify") ? new String[] {"sslmode", mode, "sslrootcert", CA_FILE}
                : new String[] {"sslmode", mode};
            try (Connection connection = connect(root)) {
                show("tls " + mode, one(connection, "select repeat('x', 5000000)").length());
                cancel(connection);
            }
        }
        show("tls unknown root", errorOf(() -> connect("sslmode", "verify-full", "sslfactory", "org.postgresql.ssl.DefaultJavaSSLFactory")).getSQLState());
    }

    public static void main(String[] arguments) throws Exception {
        if (arguments.length > 0 && arguments[0].equals("login")) {
            try (Connection connection = connect()) {
                one(connection, "select 1");
            }
            return;
        }
        types();
        try (Connection connection = connect()) {
            parameters(connection);
            prepared(connection);
            portals(connection);
            copies(connection);
            notifications(connection);
            largeObjects(connection);
            cancel(connection);
            timeout(connection);
            transactions(connection);
            errors(connection);
            bigValues(connection);
            settings(connection);
        }
        tls();
        // Threads that time statements out would keep the process for a while.
        System.exit(0);
    }
}
