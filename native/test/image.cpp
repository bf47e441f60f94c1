// A kernel image for image_test.cpp: its kernel returns VALUE.
#include "abi.h"

extern "C" __attribute__((visibility("default"))) int value(const NfLaunch*) { return VALUE; }
