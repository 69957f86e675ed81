-- How good the served decisions were, by the month of the order; only those whose outcome is known.
-- AUC is the Mann-Whitney statistic: ranks of the positives, ties sharing the mean of their ranks. Ranks are doubled
-- and squares rounded to DECIMAL, so that every sum is exact.
WITH known AS (
    SELECT
        month,
        version,
        returned,
        earned,
        CAST((probability - CAST(returned AS INTEGER)) ** 2 AS DECIMAL(18, 12)) AS square,
        2 * rank() OVER (PARTITION BY month, version ORDER BY probability)
            + count(*) OVER (PARTITION BY month, version, probability) - 1 AS rank_doubled
    FROM served
    WHERE returned IS NOT NULL
),
counted AS (
    SELECT
        month,
        version,
        count(*) AS decisions,
        count(*) FILTER (returned) AS positives,
        count(*) FILTER (NOT returned) AS negatives,
        CAST(coalesce(sum(rank_doubled) FILTER (returned), 0) AS DOUBLE) / 2 AS rank_sum,
        sum(square) AS squares,
        sum(earned) AS earned
    FROM known
    GROUP BY month, version
)
SELECT
    month,
    version,
    decisions,
    positives / decisions AS base_rate,
    CASE WHEN positives > 0 AND negatives > 0
        THEN (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)
    END AS auc,
    CAST(squares AS DOUBLE) / decisions AS brier,
    CAST(earned AS DOUBLE) / decisions * 1000 AS value_per_1000
FROM counted
