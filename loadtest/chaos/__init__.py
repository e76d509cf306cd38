"""What breaks a running system on purpose and sees whether its promises hold: experiments, actions, the fault proxy."""
