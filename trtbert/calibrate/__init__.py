"""Stage `calibrate`: a float graph and texts -> the same graph with Q/DQ."""

from trtbert.calibrate.cache import Identity, read_details, write_cache
from trtbert.calibrate.choose import Calibrated, Part, Trial, calibrate
from trtbert.calibrate.coarse import coarse_histograms
from trtbert.calibrate.lstm import plan_lstms
from trtbert.calibrate.plan import GemmPlan
from trtbert.calibrate.record import from_record, to_record
from trtbert.calibrate.sensitivity import Budget, Cost, fit_budget, measure_costs, measure_error

__all__ = [
    "Budget",
    "Calibrated",
    "Cost",
    "GemmPlan",
    "Identity",
    "Part",
    "Trial",
    "calibrate",
    "coarse_histograms",
    "fit_budget",
    "from_record",
    "measure_costs",
    "measure_error",
    "plan_lstms",
    "read_details",
    "to_record",
    "write_cache",
]
