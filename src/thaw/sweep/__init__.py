"""What surrounds the jobs of a sweep, told from the files they leave: who is done, which settings are better.

Pure functions of folders, loaded in a moment. Standard library only.
"""

from thaw.sweep.board import Board, leaderboard
from thaw.sweep.jobs import Job, read_jobs
from thaw.sweep.text import csv_rows, markdown, terminal

__all__ = ["Board", "Job", "csv_rows", "leaderboard", "markdown", "read_jobs", "terminal"]
