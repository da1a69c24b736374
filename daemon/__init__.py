"""orderheal: finds business objects stuck between systems, remediates them and proves the healing."""
