"""What turned out to be true, and of which prediction: the one definition, in SQL over ``outcome`` and ``prediction``.

An outcome names its prediction by id, or by key and time: then it is one of the newest prediction of that endpoint
about that entity that was asked at or before that time (of several asked at the same time, the one received last), and
of no other. Only events that a query sees count, so what was known at a time is matched as it was then; a prediction
that arrives late takes over the outcomes that are its own. One that matches none keeps ``prediction_id`` NULL.
"""

from typing import Final

#: All outcomes, with the ids of their predictions. Those by id need not be sorted to be matched.
MATCHED_SQL: Final = """
SELECT prediction_id, outcome.* EXCLUDE (prediction_id) FROM outcome WHERE prediction_id IS NOT NULL
UNION ALL
SELECT
    CASE WHEN keyed.since IS NULL OR asked._time >= keyed.since THEN asked._id END AS prediction_id,
    keyed.* EXCLUDE (prediction_id)
FROM (SELECT * FROM outcome WHERE prediction_id IS NULL) AS keyed ASOF LEFT JOIN (
    SELECT endpoint, entity, _time, _id FROM prediction
    WHERE (endpoint, entity) IN (SELECT (endpoint, entity) FROM outcome WHERE prediction_id IS NULL)
    QUALIFY row_number() OVER (PARTITION BY endpoint, entity, _time ORDER BY _received DESC, _position DESC) = 1
) AS asked
    ON asked.endpoint = keyed.endpoint AND asked.entity = keyed.entity
    AND asked._time <= coalesce(keyed.until, keyed._time)
"""

#: Outcomes by id whose prediction is not in the log, or not yet.
UNKNOWN_SQL: Final = """
SELECT outcome.* FROM outcome ANTI JOIN prediction ON prediction._id = outcome.prediction_id
WHERE outcome.prediction_id IS NOT NULL
"""

#: What counts, of a table of matched outcomes: of each prediction the outcome that was received last.
KNOWN_OF: Final = """
SELECT prediction_id, arg_max_null(value, (_received, _position)) AS value, max(_time) AS newest
FROM {matched} WHERE prediction_id IS NOT NULL GROUP BY prediction_id
"""
KNOWN_SQL: Final = KNOWN_OF.format(matched=f"({MATCHED_SQL}) AS matched")
