"""What the controller decides: values in, values out.

`wanted` says which claims there should be, `plan` what to do about those that are there,
`policies` whether claims are safe to be made, `leadership` which replica may act.
"""
