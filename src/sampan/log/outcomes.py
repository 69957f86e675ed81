"""What turned out to be true, and of which prediction: the one definition, in SQL over ``outcome`` and ``prediction``.

An outcome names its prediction by id, or by key and time: then it is one of the newest prediction of that endpoint
about that entity that was asked at or before that time (of several asked at the same time, the one received last), and
of no other. Only events that a query sees count, so what was known at a time is matched as it was then; a prediction
that arrives late takes over the outcomes that are its own. One that matches none keeps ``prediction_id`` NULL.
"""

from typing import Final

#: All outcomes, with the ids of their predictions.
MATCHED_SQL: Final = """
SELECT
    CASE
        WHEN outcome.prediction_id IS NOT NULL THEN outcome.prediction_id
        WHEN outcome.since IS NULL OR asked._time >= outcome.since THEN asked._id
    END AS prediction_id,
    outcome.* EXCLUDE (prediction_id)
FROM outcome ASOF LEFT JOIN (
    SELECT endpoint, entity, _time, _id FROM prediction
    WHERE (endpoint, entity) IN (SELECT (endpoint, entity) FROM outcome WHERE prediction_id IS NULL)
    QUALIFY row_number() OVER (PARTITION BY endpoint, entity, _time ORDER BY _received DESC, _position DESC) = 1
) AS asked
    ON asked.endpoint = outcome.endpoint AND asked.entity = outcome.entity
    AND asked._time <= coalesce(outcome.until, outcome._time)
"""

#: Outcomes by id whose prediction is not in the log, or not yet.
UNKNOWN_SQL: Final = """
SELECT outcome.* FROM outcome ANTI JOIN prediction ON prediction._id = outcome.prediction_id
WHERE outcome.prediction_id IS NOT NULL
"""

#: What counts: of each prediction the outcome that was received last.
KNOWN_SQL: Final = f"""
SELECT * FROM ({MATCHED_SQL}) AS matched WHERE prediction_id IS NOT NULL
QUALIFY row_number() OVER (PARTITION BY prediction_id ORDER BY _received DESC, _position DESC) = 1
"""
