"""Dashboard: the pages of `admin_host`, for administrators and those who may look."""
