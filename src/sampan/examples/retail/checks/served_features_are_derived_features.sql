-- No skew: what the shop's back end sent with a request is what the log gives for that order, to the last digit.
WITH pairs AS (
    SELECT served.order_id, CAST(served.features AS JSON) AS sent, to_json(derived) AS ours
    FROM served
    JOIN features AS derived ON derived.order_id = served.order_id
),
per_feature AS (
    SELECT order_id, unnest(json_keys(sent)) AS feature, sent, ours
    FROM pairs
),
compared AS (
    SELECT
        order_id,
        feature,
        CAST(json_extract_string(sent, '$.' || feature) AS DOUBLE) AS served,
        CAST(json_extract_string(ours, '$.' || feature) AS DOUBLE) AS derived
    FROM per_feature
)
FROM compared
WHERE served IS DISTINCT FROM derived
