"""What users test their workspaces with, and the contract suites that every back end passes."""
