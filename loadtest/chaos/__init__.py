"""What breaks a running system on purpose, and sees whether its promises hold: the fault proxy and the actions."""
