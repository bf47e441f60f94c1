/* The four functions that GCC may call in freestanding code. Hidden, and dropped from an image that needs none of them. */
typedef __SIZE_TYPE__ size_t;

void* memcpy(void* restrict to, const void* restrict from, size_t size) {
  char* d = to;
  const char* s = from;
  while (size--) *d++ = *s++;
  return to;
}

void* memmove(void* to, const void* from, size_t size) {
  char* d = to;
  const char* s = from;
  if (d <= s) {
    while (size--) *d++ = *s++;
  } else {
    while (size--) d[size] = s[size];
  }
  return to;
}

void* memset(void* to, int value, size_t size) {
  char* d = to;
  while (size--) *d++ = (char)value;
  return to;
}

int memcmp(const void* a, const void* b, size_t size) {
  const unsigned char *x = a, *y = b;
  for (; size--; ++x, ++y)
    if (*x != *y) return *x - *y;
  return 0;
}
