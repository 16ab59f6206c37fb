"""Family of estimators: journalled item scores -> estimates per task."""
