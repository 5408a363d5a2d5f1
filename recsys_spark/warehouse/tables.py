"""Declarations of all tables of the product: pure data, rendered elsewhere.

Owns: names, columns, units, keys and layout.  The feature groups add their columns to `user_features` and
`item_features` (see `recsys_spark.features.declared`).
"""

from recsys_spark.warehouse.contract import Column, ListOf, MapOf, StructOf, Table, run_table

ID_MAX_BYTES = 256

# 250 users x 100 items stay under this size: one user is then one small read (see tests/benchmarks/bench_reader.py).
_LOOKUP_ROW_GROUP_BYTES = 1 << 20


def _user_id(doc: str = "external user id, byte for byte as it was logged") -> Column:
    return Column("user_id", "string", doc, check="user_id <> ''")


def _item_id(doc: str = "external item id, byte for byte as it was logged") -> Column:
    return Column("item_id", "string", doc, check="item_id <> ''")


_USER_IDX = Column("user_idx", "int", "dense index of the user in this run", check="user_idx >= 0")
_ITEM_IDX = Column("item_idx", "int", "dense index of the item in this run", check="item_idx >= 0")
_BATCH = Column("batch_seq", "long", "ingest batch that brought the row")

RANKED_IDX = ListOf(
    StructOf(
        (
            Column("item_idx", "int", "dense index of the item"),
            Column("rank", "int", "position in the list, from 1"),
            Column("score", "float", "the source's own score, higher is better"),
        )
    )
)

PROVENANCE = ListOf(
    StructOf(
        (
            Column("source", "string", "list that proposed the item, rule/RULE_ID of a rule that moved it, or explore"),
            Column(
                "rank", "int", "place in it among what the user may see, from 1; of a pin as asked; of explore which"
            ),
            Column(
                "score", "float", "its score in that list; the factor of a boost; 0 of a pin; of explore the propensity"
            ),
        )
    )
)

CANDIDATES = ListOf(
    StructOf(
        (
            Column("item_id", "string", "external item id"),
            Column("rank", "int", "position in the list, from 1"),
            Column("score", "float", "fused score, higher is better"),
            Column("sources", PROVENANCE, "every list that proposed the item, then every rule that moved it"),
        )
    )
)

EVENTS = Table(
    "events",
    "events",
    "Engagement events, each stored once, under the day on which it happened",
    (
        Column(
            "event_key",
            "string",
            "identity: hash of event_id and day, or of all fields where there is none; of no day without times",
        ),
        Column("user_id", "string", "external user id; null: anonymous, used for popularity alone", nullable=True),
        _item_id(),
        Column("event_type", "string", "event type as named in the configuration"),
        Column("event_time", "timestamp", "when it happened, UTC; without times, after 2000-01-01, what is in order"),
        Column("event_id", "string", "identity given by the log", nullable=True),
        Column("value", "double", "quantity, rating, seconds: what the type's transform expects", nullable=True),
        Column("session_id", "string", "session of the event", nullable=True),
        Column("surface", "string", "place in the product where it happened", nullable=True),
        Column("position", "int", "position of the item on that surface, from 1", nullable=True),
        Column("propensity", "double", "probability of being shown, if the log has it", "0 to 1", nullable=True),
        Column("attributes", MapOf("string"), "further fields kept by configuration", nullable=True),
        Column("ds", "date", "UTC day of event_time"),
        _BATCH,
        Column("file_sha256", "string", "content hash of the file that brought the row"),
        Column("line", "long", "line (JSONL, CSV) or row (Parquet) in that file, from 1"),
    ),
    key=("event_key",),
    partition_by=("ds",),
    volatile=frozenset({"batch_seq", "file_sha256", "line"}),
)

QUARANTINE = Table(
    "quarantine",
    "events",
    "Lines and files that were refused at ingest, with the reason and the place; nothing is dropped unseen",
    (
        _BATCH,
        Column("kind", "string", "feed of the file: events, items or users"),
        Column("path", "string", "file, relative to the landing folder"),
        Column("file_sha256", "string", "content hash of the file"),
        Column("line", "long", "line or row in the file, from 1; null: the whole file", nullable=True),
        Column("reason", "string", "reason code"),
        Column("detail", "string", "what was expected and what was found", nullable=True),
        Column("raw", "string", "the line, cut to 4 KiB", nullable=True),
        Column("raw_sha256", "string", "hash of the whole line", nullable=True),
        Column("quarantined_at", "timestamp", "when the batch was received, UTC"),
        Column("ds", "date", "UTC day of quarantined_at"),
    ),
    partition_by=("ds",),
)

INGEST_BATCHES = Table(
    "ingest_batches",
    "ledger",
    "Write-ahead plan and outcome of every ingest batch; an open plan is replayed before anything else",
    (
        _BATCH,
        Column("kind", "string", "feed: events, items or users"),
        Column("state", "string", "planned, done or refused", check="state IN ('planned', 'done', 'refused')"),
        Column("received_at", "timestamp", "when the batch was listed, UTC"),
        Column("history", "boolean", "true: no bound on lateness"),
        Column("watermark", "timestamp", "latest event_time before this batch", nullable=True),
        Column(
            "files",
            ListOf(
                StructOf(
                    (
                        Column("path", "string", "relative to the landing folder"),
                        Column("sha256", "string", "content hash when it was planned"),
                        Column("bytes", "long", "size when it was planned"),
                        Column("mtime_ns", "long", "time of last change when it was planned", "ns since 1970"),
                    )
                )
            ),
            "files of the batch in the order in which they are read",
        ),
        Column("mapping", "string", "the configuration section that the batch is read with, as JSON"),
        Column("min_event_time", "timestamp", "earliest event_time, or valid_from, that was added", nullable=True),
        Column("max_event_time", "timestamp", "latest event_time, or valid_from, that was added", nullable=True),
        Column("affected_dates", ListOf("date"), "days that gained events"),
        Column("detail", "string", "why it was refused", nullable=True),
        Column("recorded_at", "timestamp", "when this row was written, UTC"),
    ),
)

INGEST_FILES = Table(
    "ingest_files",
    "ledger",
    "One row per file and batch: lines_in = n_new + n_anonymous + n_duplicate + n_quarantined + n_continued",
    (
        _BATCH,
        Column("kind", "string", "feed: events, items or users"),
        Column("path", "string", "file, relative to the landing folder"),
        Column("sha256", "string", "content hash"),
        Column("bytes", "long", "size on disk"),
        Column("mtime_ns", "long", "time of last change; if it stays, the file is not hashed again", "ns since 1970"),
        Column("state", "string", "ingested, duplicate, quarantined, or refused with its batch and tried again"),
        Column("reason", "string", "why it was not ingested", nullable=True),
        Column("mapping_hash", "string", "hash of the mapping that it was read with"),
        Column("lines_in", "long", "lines as they stand in the file, but for blank ones and a header; Parquet: rows"),
        Column("n_new", "long", "rows that were added"),
        Column("n_anonymous", "long", "rows that were added without a user"),
        Column("n_duplicate", "long", "rows that were known already"),
        Column("n_quarantined", "long", "rows that were refused"),
        Column("n_malformed", "long", "refused rows that count for the bad-row gate"),
        Column("n_continued", "long", "lines after the first of their record, in quoted CSV cells", nullable=True),
        Column("unknown_columns", MapOf("long"), "columns that the mapping does not name, with the rows that had them"),
    ),
)

# Columns of items by which models may group them, beside their further attributes; the latter hold several values.
ITEM_CATEGORIES = ("category", "brand")
ITEM_LISTS = ("tags",)

ITEMS = Table(
    "items",
    "catalogue",
    "Catalogue of items: one row per change, valid from a time on",
    (
        _item_id(),
        Column("valid_from", "timestamp", "the row holds from this time on, UTC"),
        Column("title", "string", "title", nullable=True),
        Column("category", "string", "category", nullable=True),
        Column("brand", "string", "brand", nullable=True),
        Column("price", "double", "price", "the log's own currency", nullable=True),
        Column("length", "double", "full length of the item, for values relative to it", "unit of value", True),
        Column("created_at", "timestamp", "when the item came into being, UTC", nullable=True),
        Column("tags", ListOf("string"), "tags", nullable=True),
        Column("vectors", MapOf(ListOf("float")), "pretrained embeddings by column name", nullable=True),
        Column("attributes", MapOf("string"), "every other column of the snapshot", nullable=True),
        Column("content_sha256", "string", "hash of the fields above but valid_from"),
        _BATCH,
    ),
    key=("item_id", "valid_from"),
    volatile=frozenset({"batch_seq"}),
)

USERS = Table(
    "users",
    "catalogue",
    "Catalogue of users: one row per change, valid from a time on",
    (
        _user_id(),
        Column("valid_from", "timestamp", "the row holds from this time on, UTC"),
        Column("created_at", "timestamp", "when the user signed up, UTC", nullable=True),
        Column("vectors", MapOf(ListOf("float")), "pretrained embeddings by column name", nullable=True),
        Column("attributes", MapOf("string"), "every other column of the snapshot", nullable=True),
        Column("content_sha256", "string", "hash of the fields above but valid_from"),
        _BATCH,
    ),
    key=("user_id", "valid_from"),
    volatile=frozenset({"batch_seq"}),
)

USER_INDEX = run_table(
    "user_index",
    "bundle",
    "Dense user indices of the run, in the byte order of the ids",
    (_USER_IDX, _user_id()),
    key=("user_idx",),
    sort_by=("user_id",),
)

ITEM_INDEX = run_table(
    "item_index",
    "bundle",
    "Dense item indices of the run, in the byte order of the ids",
    (_ITEM_IDX, _item_id()),
    key=("item_idx",),
    sort_by=("item_id",),
)

INTERACTIONS = run_table(
    "interactions",
    "work",
    "What each user did with each item before the date, as one weight",
    (
        _USER_IDX,
        _ITEM_IDX,
        Column("weight", "float", "r_ui: decayed sum of event weights, clipped at zero", check="weight >= 0"),
        Column("last_time", "timestamp", "latest engagement, or the latest dislike where there is none, UTC"),
        Column("n_events", "int", "engagement events, before any cap; 0: nothing but dislikes", check="n_events >= 0"),
        Column("excluded_until", "timestamp", "never show the item before this time (a dislike)", nullable=True),
    ),
    key=("user_idx", "item_idx"),
)

EXPOSURES = run_table(
    "exposures",
    "work",
    "Impressions: what was shown to whom; never part of the weights",
    (
        _USER_IDX,
        _ITEM_IDX,
        Column("event_time", "timestamp", "when it was shown, UTC"),
        Column("surface", "string", "place in the product", nullable=True),
        Column("position", "int", "position on that surface, from 1", nullable=True),
        Column("propensity", "double", "probability of being shown, if logged", "0 to 1", nullable=True),
        Column("session_id", "string", "session", nullable=True),
    ),
)

USER_FEATURES = run_table(
    "user_features",
    "bundle",
    "Features of every indexed user as of the date, looking back no further than interactions.window_days; the feature "
    "groups add their columns",
    (
        _user_id(),
        Column("segment", "string", "segment of the user (see [segments]); null: none known", nullable=True),
        Column("recent_items", ListOf("string"), "last engaged items, newest first"),
    ),
    key=("user_id",),
    sort_by=("user_id",),
    row_group_bytes=_LOOKUP_ROW_GROUP_BYTES,
)

ITEM_FEATURES = run_table(
    "item_features",
    "bundle",
    "Features of every indexed item as of the date, looking back no further than interactions.window_days; the feature "
    "groups add their columns",
    (
        _item_id(),
        Column("title", "string", "title in the catalogue as of the date", nullable=True),
        Column("category", "string", "category in the catalogue as of the date", nullable=True),
    ),
    key=("item_id",),
    sort_by=("item_id",),
    row_group_bytes=_LOOKUP_ROW_GROUP_BYTES,
)

NEIGHBORS = ListOf(
    StructOf(
        (
            Column("item_id", "string", "external item id"),
            Column("item_idx", "int", "dense index of the item"),
            Column("score", "float", "similarity as in [item_cf], higher is nearer"),
        )
    )
)

ITEM_NEIGHBORS = run_table(
    "item_neighbors",
    "bundle",
    "Related items: of every item the nearest that may be shown, by who engaged with both; without any there is no row",
    (
        _item_id(),
        _ITEM_IDX,
        Column("neighbors", NEIGHBORS, "nearest items, best first, ties by the smaller item_idx"),
    ),
    key=("item_id",),
    sort_by=("item_id",),
    row_group_bytes=_LOOKUP_ROW_GROUP_BYTES,
)

_VECTOR = Column(
    "vector", ListOf("float"), "factors, [als] factors of them; a user's and an item's product is their score"
)
_WEIGHT = Column("weight", "double", "sum of the weights r_ui that were fitted", check="weight >= 0")
_N = Column("n", "int", "interactions that were fitted; 0: the vector comes from attributes alone", check="n >= 0")

USER_FACTORS = run_table(
    "user_factors",
    "bundle",
    "ALS factors of users: of all with a weighted interaction, or an attribute, that is not zero for want of others",
    (_user_id(), _USER_IDX, _VECTOR, _WEIGHT, _N),
    key=("user_id",),
)

ITEM_FACTORS = run_table(
    "item_factors",
    "bundle",
    "ALS factors of items: of all with a weighted interaction, or an attribute, that is not zero for want of others",
    (
        _item_id(),
        _ITEM_IDX,
        _VECTOR,
        _WEIGHT,
        _N,
        Column("shown", "boolean", "may stand in a list on the date: available as [candidates] says"),
    ),
    key=("item_id",),
)

TWO_TOWER_MODELS = run_table(
    "two_tower_models",
    "bundle",
    "The two-tower model of the run: where its weights are, and how it was trained; no row if it was not asked for",
    (
        Column("model_version", "string", "SHA-256 of the file of weights"),
        Column("rel_path", "string", "safetensors file, relative to the warehouse"),
        Column("n_bytes", "long", "its size"),
        Column("card", "string", "what the model takes and how it was trained, as JSON; it is in the file too"),
    ),
    key=("model_version",),
)

_EMBEDDING = Column(
    "vector", ListOf("float"), "output of the tower; a user's and an item's product is their score over temperature"
)
_NORM = Column("norm", "float", "length of the vector, 1 where [two_tower] normalize is on")
_MODEL_VERSION = Column("model_version", "string", "SHA-256 of the weights that made it")

USER_EMBEDDINGS = run_table(
    "user_embeddings",
    "bundle",
    "Embeddings of users by their features and recent items: of every indexed user whose vector is finite and not zero",
    (_user_id(), _USER_IDX, _EMBEDDING, _NORM, _MODEL_VERSION),
    key=("user_id",),
)

ITEM_EMBEDDINGS = run_table(
    "item_embeddings",
    "bundle",
    "Embeddings of every indexed item, those without any event too",
    (
        _item_id(),
        _ITEM_IDX,
        _EMBEDDING,
        _NORM,
        _MODEL_VERSION,
        Column("shown", "boolean", "may stand in a list on the date: available as [candidates] says"),
    ),
    key=("item_id",),
)

ANN_SHARDS = run_table(
    "ann_shards",
    "bundle",
    "Manifest of the index over the embeddings of items that may be shown: one row per shard; none without embeddings",
    (
        Column("shard", "int", "number of the shard, from 0 over all parts"),
        Column("part", "string", "value of [ann] partition_by that its items have; null: none", nullable=True),
        Column("n_shards", "int", "shards of the part, among which its items are spread by the hash of their ids"),
        Column("rel_path", "string", "FAISS index, relative to the warehouse"),
        Column("n_bytes", "long", "its size"),
        Column("sha256", "string", "its SHA-256"),
        Column("vectors_rel_path", "string", "embeddings of its items in the order of item_idx, float32 (ntotal, dim)"),
        Column("vectors_n_bytes", "long", "size of that file"),
        Column("vectors_sha256", "string", "SHA-256 of that file"),
        Column("ntotal", "int", "items in it", check="ntotal >= 1"),
        Column("min_item_idx", "int", "smallest dense index in it; ids in the index are item_idx"),
        Column("max_item_idx", "int", "greatest dense index in it"),
        Column("d", "int", "length of an indexed vector: that of an embedding, or more where norms differ"),
        Column("metric", "string", "what the index compares by"),
        Column("factory", "string", "FAISS factory string"),
        Column("nlist", "int", "lists, 1 without"),
        Column("m", "int", "sub-quantisers M of a code, 0: vectors are stored whole"),
        Column("nbits", "int", "bits of a sub-quantiser, 0 likewise"),
        Column("nprobe", "int", "lists to search: the fewest whose recall reached [ann] min_recall"),
        Column("rerank", "int", "items per wanted item whose products are computed exactly"),
        Column(
            "recall_at_100",
            "double",
            "recall of the exact best 100 of the part at nprobe; null: no users to measure with",
            "0 to 1",
            nullable=True,
        ),
        Column("faiss_version", "string", "version of FAISS that wrote it"),
        _MODEL_VERSION,
    ),
    key=("shard",),
)

SOURCE_CANDIDATES = run_table(
    "source_candidates",
    "work",
    "What each source proposed, before blending: for one user, for a segment, or for everybody",
    (
        Column("source", "string", "source, or source/list where one source has several lists"),
        Column("user_idx", "int", "the user; null: the list is for a segment or for everybody", nullable=True),
        Column("segment", "string", "the segment; null: the list is for one user or for everybody", nullable=True),
        Column(
            "items", RANKED_IDX, "proposed items, best first; then what other sources proposed to the user, by score"
        ),
        Column(
            "n_own", "int", "items that the source itself proposed, the first of the list; null: all", nullable=True
        ),
        Column("mean", "double", "mean of the user's scores over all items; null: not known", nullable=True),
        Column("deviation", "double", "standard deviation of these scores; null: not known", nullable=True),
    ),
)

CANDIDATE_LISTS = run_table(
    "candidates",
    "bundle",
    "Top-K candidates of every active user, with the sources that proposed each",
    (
        _user_id(),
        Column("variant", "string", "experiment variant"),
        Column("items", CANDIDATES, "candidates, best first"),
        Column("generated_at", "timestamp", "when the list was made, UTC"),
    ),
    key=("user_id", "variant"),
    sort_by=("user_id", "variant"),
    row_group_bytes=_LOOKUP_ROW_GROUP_BYTES,
    volatile=frozenset({"generated_at"}),
)

FALLBACK_CANDIDATES = run_table(
    "fallback_candidates",
    "bundle",
    "Top-K candidates for users without a list of their own: per segment, and for everybody",
    (
        Column("segment", "string", "segment; null: for everybody", nullable=True),
        Column("items", CANDIDATES, "candidates, best first"),
        Column("generated_at", "timestamp", "when the list was made, UTC"),
    ),
    key=("segment",),
    volatile=frozenset({"generated_at"}),
)

QUALITY = run_table(
    "quality",
    "bundle",
    "What the bundle that was current was worth, by what users did from its date on: no figure of the run's own lists",
    (
        Column("judged_run_id", "string", "run of the lists"),
        Column("judged_from", "date", "its date, from which users were watched"),
        Column("judged_to", "date", "end of the watch, exclusive"),
        Column("list", "string", "published, or a popularity beside it"),
        Column("users_or_items", "string", "group of users or items: all, or one of evaluation/kernels/figures.py"),
        Column("metric", "string", "what was measured"),
        Column("k", "int", "places of the list that counted; 0: all that was shown"),
        Column("n_users", "long", "users who counted; of ctr showings, of ctr_ips and value_ips the sum of weights"),
        Column("estimate", "double", "mean over users; ctr: engaged with of what was shown"),
        Column("low", "double", "lower 95 % bound; null: has none", nullable=True),
        Column("high", "double", "upper 95 % bound; null: has none", nullable=True),
        Column(
            "over_popular",
            "double",
            "estimate less that of the items most engaged in 28 days, the same users; null: not compared",
            nullable=True,
        ),
        Column("over_popular_low", "double", "its lower 95 % bound; null: not compared", nullable=True),
        Column("over_popular_high", "double", "its upper 95 % bound; null: not compared", nullable=True),
    ),
    key=("list", "users_or_items", "metric", "k"),
)

CHOICES = run_table(
    "choices",
    "bundle",
    "What the run tried on what it held out, and the settings that it chose; rows are those of an earlier run while "
    "its choices are reused",
    (
        Column(
            "kind",
            "string",
            "settings: all that was chosen; blend: a way to blend; else what was tried, a source or list",
        ),
        Column("name", "string", "what was tried"),
        Column("settings", "string", "JSON object: dotted name of a setting and its value, {} = as configured"),
        Column(
            "recall", "double", "mean of recall@10 and recall@20 over who judged it; null: not judged", nullable=True
        ),
        Column("low", "double", "its lower 95 % bound; null: not judged", nullable=True),
        Column("high", "double", "its upper 95 % bound; null: not judged", nullable=True),
        Column("n_users", "long", "users who judged it"),
        Column("chosen", "boolean", "whether it was chosen; of a source that was left out: true"),
        Column("why", "string", "what decided, where that is not the greatest recall"),
        Column("held_out", "string", "what was held out of the log"),
        Column("made_on", "date", "date of the run that tried it"),
        Column("n_pairs", "long", "users and items that had each other in that run"),
        Column("config_hash", "string", "hash of the settings that were not to be chosen"),
    ),
    key=("kind", "name"),
)

BLEND_FITS = run_table(
    "blend_fits",
    "bundle",
    "How the lists of a run were made into one",
    (
        Column("variant", "string", "experiment variant"),
        Column("method", "string", "rrf: by ranks, or scores"),
        Column(
            "scaling", "string", "scale of the scores, as [candidates] score_scaling; null: by ranks", nullable=True
        ),
        Column(
            "weights",
            ListOf(
                StructOf(
                    (
                        Column("source", "string", "list"),
                        Column("weight", "double", "of 1 / (rrf_k + rank), or of its standard scores"),
                    )
                )
            ),
            "weights of the lists",
        ),
    ),
    key=("variant",),
)

RANKING_EXAMPLES = run_table(
    "ranking_examples",
    "bundle",
    "What a ranking model trains on: candidates of the bundle that was current, and what became of them by the date. "
    "Features are those of that bundle, as of its date; nothing but what became of it is later. Columns user_... and "
    "item_... are those of user_features and item_features; null: unknown then",
    (
        Column("list_run_id", "string", "run of the list"),
        Column("list_date", "date", "its date, from which users were watched"),
        _user_id(),
        _item_id(),
        Column("variant", "string", "experiment variant"),
        Column("rank", "int", "position in the list, from 1"),
        Column("score", "float", "fused score"),
        Column("sources", PROVENANCE, "every list that proposed the item, with its rank and score there"),
        Column("shown_at", "timestamp", "when it was first shown, UTC; null: it was not", nullable=True),
        Column("surface", "string", "where; null: not shown, or not logged", nullable=True),
        Column("position", "int", "position there, from 1; null: not shown, or not logged", nullable=True),
        Column(
            "propensity",
            "double",
            "chance of being shown: as logged with it, else as explored; null: neither",
            "0 to 1",
            nullable=True,
        ),
        Column("engaged_at", "timestamp", "first engagement of a weight above 0, UTC; null: none", nullable=True),
        Column("label", "int", "1: engaged with", check="label IN (0, 1)"),
        Column("value", "double", "what the engagements count for, as [events.types] says; 0: none"),
        Column("drawn", "boolean", "neither shown nor engaged with, drawn from the list by chance"),
    ),
    key=("user_id", "item_id"),
)

CANDIDATE_CHANGES = run_table(
    "candidate_changes",
    "bundle",
    "The users whose list is not what the bundle before had: what a key-value store copies, instead of everything",
    (
        _user_id(),
        Column("variant", "string", "experiment variant"),
        Column(
            "change",
            "string",
            "removed: there is no list any more; changed: other items, or in another order, whatever their scores",
            check="change IN ('added', 'changed', 'removed')",
        ),
        Column("against_run_id", "string", "the bundle that it was compared with; null: there was none", nullable=True),
    ),
    key=("user_id", "variant"),
)

RULES = Table(
    "rules",
    "ledger",
    "Sets of rules as they were taken in; of those whose valid_from is not after a run's date the newest holds",
    (
        Column("set_id", "string", "hash of the set"),
        Column("valid_from", "date", "first as-of day that the set holds for"),
        Column("rule_id", "string", "the rule; null: the set has none", nullable=True),
        Column("kind", "string", "block, allow, boost, pin or available; null: no rule", nullable=True),
        Column("item_id", "string", "item that the rule is about; null: names a category or brand", nullable=True),
        Column("category", "string", "category that the rule is about; null: names something else", nullable=True),
        Column("brand", "string", "brand that the rule is about; null: names something else", nullable=True),
        Column("segment", "string", "segment whose users it is for; null: everybody", nullable=True),
        Column("position", "int", "place in the list, from 1, of a pin; null: no pin", nullable=True),
        Column("factor", "double", "what fused scores are multiplied by; null: no boost", nullable=True),
        Column("starts_at", "timestamp", "in force from then on, UTC; null: always was", nullable=True),
        Column("ends_at", "timestamp", "in force before then, UTC; null: no end", nullable=True),
        Column("reason", "string", "why, for people; null: no rule", nullable=True),
        Column("recorded_at", "timestamp", "when the set was taken in, UTC"),
    ),
)

RUNS = Table(
    "runs",
    "ledger",
    "Runs and what became of them, one row per change of state; the newest row of a run holds",
    (
        Column("run_id", "string", "YYYYMMDD-NNN-<8 hex of configuration, code and inputs>"),
        Column("data_date", "date", "as-of day D: events before D 00:00 UTC were used"),
        Column(
            "state", "string", "state", check="state IN ('open', 'published', 'backfilled', 'refused', 'abandoned')"
        ),
        Column("fingerprint", "string", "hash of configuration, code and pinned inputs"),
        Column("config_hash", "string", "hash of the resolved configuration"),
        Column("code_version", "string", "version of the product and hash of its source"),
        Column("pins", MapOf("long"), "Delta version of every input table"),
        Column("base_run_id", "string", "newest publish with an earlier data_date, for warm starts", nullable=True),
        Column("seed", "long", "seed from which every step derives its own"),
        Column("recorded_at", "timestamp", "when this row was written, UTC"),
    ),
)

RUN_STEPS = Table(
    "run_steps",
    "ledger",
    "Steps that a run has completed; a resumed run skips them",
    (
        Column("run_id", "string", "the run"),
        Column("step", "string", "the step"),
        Column("started_at", "timestamp", "start, UTC"),
        Column("seconds", "double", "wall time", "s"),
        Column("n_rows", MapOf("long"), "rows written per table"),
        Column("content_hashes", MapOf("string"), "hash of the rows written per table"),
        Column("figures", MapOf("double"), "what the step measured"),
        Column("recorded_at", "timestamp", "when this row was written, UTC"),
    ),
)

AUDITS = Table(
    "audits",
    "ledger",
    "Every gate of every audit, with the figure that it saw and the bound that it held it against",
    (
        Column("run_id", "string", "the run"),
        Column("gate", "string", "gate"),
        Column("outcome", "string", "outcome", check="outcome IN ('passed', 'failed', 'skipped')"),
        Column("figure", "double", "what was measured", nullable=True),
        Column("bound", "string", "what it was held against"),
        Column("detail", "string", "places and examples, or why it was skipped", nullable=True),
        Column("recorded_at", "timestamp", "when this row was written, UTC"),
    ),
)

PUBLISHES = Table(
    "publishes",
    "ledger",
    "The only authority on what is current: one row per publish or rollback, the highest publish_seq is the head",
    (
        Column("publish_seq", "long", "1, 2, 3, ... without gaps"),
        Column("kind", "string", "publish or rollback", check="kind IN ('publish', 'rollback')"),
        Column("run_id", "string", "run whose partitions are current from here on"),
        Column("data_date", "date", "as-of day of that run"),
        Column("prev_seq", "long", "head when this row was decided, 0 for none"),
        Column(
            "tables",
            ListOf(
                StructOf(
                    (
                        Column("name", "string", "table"),
                        Column("rel_path", "string", "path relative to the warehouse"),
                        Column("delta_version", "long", "Delta version that was audited"),
                        Column("n_rows", "long", "rows of this run"),
                        Column("content_hash", "string", "hash of the rows, in any order, without run ids and times"),
                        Column("schema_hash", "string", "hash of column names and types"),
                    )
                )
            ),
            "tables of the bundle",
        ),
        Column("config_hash", "string", "hash of the resolved configuration"),
        Column("code_version", "string", "version of the product and hash of its source"),
        Column("grace_hours", "int", "hours for which a superseded bundle stays readable", "h"),
        Column("published_at", "timestamp", "when the row was written, UTC"),
        Column("row_sha256", "string", "hash of all other fields of the row"),
    ),
    key=("publish_seq",),
)

TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        EVENTS,
        QUARANTINE,
        INGEST_BATCHES,
        INGEST_FILES,
        ITEMS,
        USERS,
        USER_INDEX,
        ITEM_INDEX,
        INTERACTIONS,
        EXPOSURES,
        USER_FEATURES,
        ITEM_FEATURES,
        ITEM_NEIGHBORS,
        USER_FACTORS,
        ITEM_FACTORS,
        TWO_TOWER_MODELS,
        USER_EMBEDDINGS,
        ITEM_EMBEDDINGS,
        ANN_SHARDS,
        SOURCE_CANDIDATES,
        CANDIDATE_LISTS,
        FALLBACK_CANDIDATES,
        CHOICES,
        BLEND_FITS,
        QUALITY,
        RULES,
        CANDIDATE_CHANGES,
        RANKING_EXAMPLES,
        RUNS,
        RUN_STEPS,
        AUDITS,
        PUBLISHES,
    )
}
