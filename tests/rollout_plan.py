"""``rollouts.toml`` as tests write it that lead a candidate over an endpoint."""

#: For queries of figures that go by the variant: predictions, and what a shadow would have answered.
TOLD = """
WITH told AS (
    SELECT _id AS prediction_id, variant = 'candidate' AS new FROM prediction
    UNION ALL SELECT _id, true FROM shadow
)
"""
#: A KPI by which the candidate is twice as good.
BETTER = f"""{TOLD}
SELECT prediction_id, (CASE WHEN new THEN 2.0 ELSE 1.0 END) + (hash(prediction_id) % 100) / 100.0 AS value FROM told
"""


def plan(endpoint: str, *stages: tuple[float, str], query: str = "", top: str = "", guardrail: str = "") -> str:
    """The plan of an endpoint. ``stages``: share (none for a shadow) and least time of each before the full one;
    ``query``: of the KPI; ``top``: further lines about all of it; ``guardrail``: the lines of one."""
    lines = [f"[{endpoint}]", top, f"[{endpoint}.kpi]", "minimum_effect = 0.1"]
    lines += [f'query = """{query}"""'] if query else []
    lines += [f"[[{endpoint}.guardrail]]", guardrail] if guardrail else []
    for share, least in stages:
        lines += [f"[[{endpoint}.stage]]", f"share = {share}" if share else "shadow = true", f'at_least = "{least}"']
    return "\n".join([*lines, f"[[{endpoint}.stage]]", "share = 1.0", ""])
