"""The reservation: who has which seat, and the payment saga."""
