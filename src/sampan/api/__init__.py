"""The JSON face: the guard in front of every route, the policies, intake, predictions, and the ``/v1`` routes."""
