-- One row per decision that the shop asked for, with its outcome once that is known.
SELECT
    prediction._id AS prediction_id,
    json_extract_string(prediction.context, '$.order_id') AS order_id,
    prediction.entity AS customer_id,
    prediction._time AS asked_at,
    strftime(prediction._time, '%Y-%m') AS month,
    prediction.version,
    prediction.features,
    CAST(prediction.prediction AS DOUBLE) AS probability,
    prediction.action,
    prediction.rule,
    CAST(outcome.value AS VARCHAR) = 'true' AS returned,
    CAST(
        CASE CAST(outcome.value AS VARCHAR)
            WHEN 'true' THEN json_extract_string(prediction.value, '$.outcomes.true')
            WHEN 'false' THEN json_extract_string(prediction.value, '$.outcomes.false')
        END AS DECIMAL(12, 4)
    ) AS earned
FROM prediction
LEFT JOIN outcome ON outcome.prediction_id = prediction._id
WHERE prediction.endpoint = 'reorder'
