"""Prefect flows. A flow body reads like the paper's figure; the work is in tasks/ and dualvla/.

Whatever process imports a flow, a worker's or a schedule's, keeps secrets out of its logs.
"""

from dualvla import redaction

redaction.guard_logs()
