"""Functions of DuckDB whose result depends on more than the rows that they are given."""

from typing import Final

CLOCK: Final = "depends on when it runs"
_DICE: Final = "is drawn anew each time"
_HERE: Final = "depends on the session that runs it"
_ORDER: Final = "depends on the order of the rows"

_OF_CLOCK: Final = (
    "now", "get_current_timestamp", "transaction_timestamp", "statement_timestamp", "clock_timestamp",
    "current_timestamp", "current_date", "today", "current_time", "get_current_time", "localtime", "localtimestamp",
    "current_localtime", "current_localtimestamp", "current_datetime", "utc_timestamp", "utc_date", "utc_time",
)  # fmt: skip
_OF_DICE: Final = (
    "random", "rand", "setseed", "uuid", "gen_random_uuid", "uuidv4", "uuidv7", "nextval", "currval", "txid_current",
)  # fmt: skip
_OF_HERE: Final = (
    "version", "current_setting", "getvariable", "getenv", "current_user", "session_user", "user", "current_role",
    "current_schema", "current_schemas", "current_database", "current_query", "current_connection_id",
    "pg_backend_pid", "current_query_id", "current_transaction_id",
)  # fmt: skip
_OF_ORDER: Final = ("approx_quantile", "approx_quantiles", "approx_top_k", "reservoir_quantile")

# Never in a table's query: name to reason and advice. Names are DuckDB's or, where it has its own, sqlglot's.
NEVER: Final[dict[str, tuple[str, str]]] = {
    **dict.fromkeys(_OF_CLOCK, (CLOCK, "Use a time column, or the newest one: `(SELECT max(time) FROM …)`.")),
    **dict.fromkeys(_OF_DICE, (_DICE, "Derive it from a key, e.g. `md5_number_lower(id)`.")),
    **dict.fromkeys(_OF_HERE, (_HERE, "Write the value into the query.")),
    **dict.fromkeys(_OF_ORDER, (_ORDER, "Use `quantile_cont`, which is exact.")),
    **dict.fromkeys(("query", "query_table"), ("hides which tables are read", "Name the table in FROM.")),
}

# Aggregates of two arguments that keep the row of the greatest or least
OF_TWO: Final = frozenset({
    "arg_max", "arg_min", "max_by", "min_by", "argmax", "argmin", "arg_max_null", "arg_min_null",
    "arg_max_nulls_last", "arg_min_nulls_last",
})  # fmt: skip
# Aggregates whose result depends on the order of rows, unless they are told one
ORDERED: Final = OF_TWO | {
    "first", "last", "any_value", "arbitrary", "list", "array_agg", "string_agg", "group_concat", "listagg", "mode",
    "json_group_array", "json_group_object", "json_group_structure",
}  # fmt: skip
# Window functions that need ORDER BY inside OVER
WINDOWED: Final = frozenset({
    "row_number", "lag", "lead", "first_value", "last_value", "nth_value", "ntile", "first", "last", "fill",
})  # fmt: skip
# Functions that may stand in FROM
TABLE_FUNCTIONS: Final = frozenset({
    "generate_series", "range", "unnest", "generate_subscripts", "json_each", "json_tree",
})  # fmt: skip
# What sqlglot calls functions, where that is not DuckDB's name
NAMES: Final = {
    "ArrayAgg": "list",
    "GroupConcat": "string_agg",
    "ArgMax": "arg_max",
    "ArgMin": "arg_min",
    "JSONArrayAgg": "json_group_array",
    "JSONObjectAgg": "json_group_object",
    "Rand": "random",
    "GenerateSeries": "generate_series",
    "ExplodingGenerateSeries": "generate_series",
    "CurrentTimestamp": "now",
}
# Aggregates that add up: over floats the order of the rows shows in the last digits
FLOATS: Final = frozenset({
    "sum", "avg", "mean", "fsum", "favg", "kahan_sum", "sumkahan", "sum_no_overflow", "stddev", "stddev_pop",
    "stddev_samp", "variance", "var_pop", "var_samp", "kurtosis", "kurtosis_pop", "skewness", "sem", "product",
    "entropy",
})  # fmt: skip
FLOATS_OF_TWO: Final = frozenset({
    "corr", "covar_pop", "covar_samp", "regr_avgx", "regr_avgy", "regr_intercept", "regr_r2", "regr_slope",
    "regr_sxx", "regr_sxy", "regr_syy",
})  # fmt: skip
