"""The probe's process on a host: how it is started and asked, and what its replies add up to."""
