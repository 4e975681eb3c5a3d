// runner_server PACKAGE [HOST [PORT]] : serves a package until SIGTERM or SIGINT; requests that have come in are answered first.
#include <trtbert/error.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <iostream>
#include <thread>

#include "server.h"

namespace {

// Every thread starts with the signals blocked, so that one alone waits for them.
sigset_t block_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  return signals;
}

int serve(char const* package, std::string const& host, int port) {
  sigset_t const signals = block_signals();
  auto const predictor = trtbert::Predictor::load(package);
  httplib::Server server;
  add_routes(server, predictor);
  int const bound = port == 0 ? server.bind_to_any_port(host.c_str()) : server.bind_to_port(host.c_str(), port) ? port : -1;
  if (bound < 0) {
    std::cerr << "cannot listen on " << host << ", port " << port << ": another program may have it; give another port, or 0 for any\n";
    return 1;
  }
  std::atomic<bool> is_done{false};
  std::thread stopper([&] {
    int signal = 0;
    sigwait(&signals, &signal);
    while (!is_done) {  // It may not listen yet.
      server.stop();
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  });
  std::cout << "serving " << package << " on http://" << host << ':' << bound << std::endl;
  bool const is_stopped = server.listen_after_bind();
  is_done = true;
  pthread_kill(stopper.native_handle(), SIGTERM);
  stopper.join();
  return is_stopped ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2 || argc > 4) {
    std::cerr << "usage: runner_server PACKAGE [HOST [PORT]]\n";
    return 2;
  }
  try {
    return serve(argv[1], argc > 2 ? argv[2] : "127.0.0.1", argc > 3 ? std::atoi(argv[3]) : 8000);
  } catch (trtbert::Error const& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
