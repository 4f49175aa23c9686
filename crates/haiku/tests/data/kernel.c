void dprintf(const char* format, ...) {}
int strcmp(const char* one, const char* other) { return 0; }
