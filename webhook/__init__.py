"""The admission webhook: `mutation` decides, `review` speaks AdmissionReview, `app` serves it."""
