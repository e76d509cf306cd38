import de.bwaldvogel.mongo.MongoServer;
import de.bwaldvogel.mongo.MongoVersion;
import de.bwaldvogel.mongo.backend.h2.H2Backend;
import de.bwaldvogel.mongo.bson.Document;
import de.bwaldvogel.mongo.wire.message.MongoMessage;
import java.util.List;
import java.util.Set;
import org.h2.mvstore.MVStore;

/**
 * A stand-in for MongoDB on loopback: java -cp 'lib/*:classes' MongoStandIn PORT FILE.
 *
 * It speaks MongoDB's wire protocol and keeps its documents in one H2 file. It has no transactions, no change streams
 * and no replication. What is seen on it shows that our driver calls and our compare-and-sets are right; it says
 * nothing about how a MongoDB behaves under load or when it fails.
 */
public final class MongoStandIn {
    private static final Set<String> WRITES = Set.of("insert", "update", "delete", "findAndModify");

    /** Every commit writes its pages anew: small ones, and for a short time, or the file grows by gigabytes. */
    private static final int PAGE_BYTES = 4096;

    private static final int OLD_PAGES_KEPT_MS = 2000;

    /** The versions that the library knows stop at wire version 8, which today's drivers refuse. */
    private enum Told implements MongoVersion {
        V5;

        @Override
        public List<Integer> getVersionArray() {
            return List.of(5, 0, 0);
        }

        @Override
        public int getWireVersion() {
            return 13;
        }
    }

    /** A write is in the file before it is answered; left alone the file trails by a second, and a kill loses that. */
    private static final class WrittenThrough extends H2Backend {
        WrittenThrough(String file) {
            super(new MVStore.Builder().fileName(file).pageSplitSize(PAGE_BYTES).open());
            getMvStore().setRetentionTime(OLD_PAGES_KEPT_MS);
            getMvStore().setVersionsToKeep(0);
        }

        @Override
        public Document handleMessage(MongoMessage message) {
            Document answer = super.handleMessage(message);
            if (WRITES.contains(message.getDocument().keySet().iterator().next())) {
                commit();
            }
            return answer;
        }
    }

    private MongoStandIn() {}

    public static void main(String[] arguments) {
        MongoServer server = new MongoServer(new WrittenThrough(arguments[1]).version(Told.V5));
        Runtime.getRuntime().addShutdownHook(new Thread(server::shutdown));
        server.bind("127.0.0.1", Integer.parseInt(arguments[0]));
    }
}
