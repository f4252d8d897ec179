// Event descriptors by which one thread wakes another that blocks in Queue::receive. The only state
// that environments share: which descriptors this module has open, behind a mutex.
#pragma once

namespace tcpcrypt {

/** Opens an event descriptor and lists it. Throws `Failure`. */
int openWake();

/** Takes it off the list and closes it. */
void closeWake(int fd);

/** Wakes whoever waits on `fd`; false if it is not one that this module has open. */
bool wake(int fd);

/** Consumes a wake-up; false if there was none. */
bool takeWake(int fd);

}  // namespace tcpcrypt
