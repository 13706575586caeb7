//! What the process takes of its machine, under the names that every Prometheus client uses. Linux alone tells it all;
//! elsewhere there is only the time of the start.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

/// The process, and when it began to serve.
#[derive(Debug)]
pub(super) struct Process {
    began: f64,
}

impl Process {
    pub(super) fn new() -> Self {
        Self { began: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64() }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "When the process began to serve, in seconds after 1970";
        ConstGauge::new(self.began).encode(encoder.encode_descriptor(
            "process_start_time_seconds",
            help,
            None,
            MetricType::Gauge,
        )?)?;
        // What the system does not tell is left out.
        #[cfg(target_os = "linux")]
        if let Ok(figures) = linux::Figures::read() {
            figures.encode(&mut encoder)?;
        }
        Ok(())
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fmt;

    use procfs::process::{LimitValue, Process};
    use procfs::{ProcResult, WithCurrentSystemInfo as _, ticks_per_second};
    use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
    use prometheus_client::metrics::MetricType;
    use prometheus_client::metrics::counter::ConstCounter;
    use prometheus_client::metrics::gauge::ConstGauge;

    pub(super) struct Figures {
        cpu_seconds: f64,
        resident_bytes: u64,
        virtual_bytes: u64,
        threads: i64,
        open_descriptors: usize,
        /// None without a limit.
        most_descriptors: Option<u64>,
    }

    impl Figures {
        pub(super) fn read() -> ProcResult<Self> {
            let process = Process::myself()?;
            let stat = process.stat()?;
            let most = match process.limits()?.max_open_files.soft_limit {
                LimitValue::Value(most) => Some(most),
                LimitValue::Unlimited => None,
            };
            Ok(Self {
                cpu_seconds: seconds(stat.utime + stat.stime, ticks_per_second()),
                resident_bytes: stat.rss_bytes().get(),
                virtual_bytes: stat.vsize,
                threads: stat.num_threads,
                open_descriptors: process.fd_count()?,
                most_descriptors: most,
            })
        }

        pub(super) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
            ConstCounter::new(self.cpu_seconds).encode(encoder.encode_descriptor(
                "process_cpu_seconds",
                "Time that processors spent on it, in seconds",
                None,
                MetricType::Counter,
            )?)?;
            let descriptors = i64::try_from(self.open_descriptors).unwrap_or(i64::MAX);
            let gauges = [
                ("process_resident_memory_bytes", "Memory that it holds", Some(whole(self.resident_bytes))),
                ("process_virtual_memory_bytes", "Addresses that it took", Some(whole(self.virtual_bytes))),
                ("process_threads", "Threads", Some(self.threads)),
                ("process_open_fds", "Open file descriptors", Some(descriptors)),
                ("process_max_fds", "The most that it may open", self.most_descriptors.map(whole)),
            ];
            for (name, help, value) in gauges {
                let Some(value) = value else { continue };
                let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
                ConstGauge::new(value).encode(metric)?;
            }
            Ok(())
        }
    }

    fn whole(value: u64) -> i64 {
        i64::try_from(value).unwrap_or(i64::MAX)
    }

    #[expect(clippy::cast_precision_loss, reason = "ticks stay far below 2^53")]
    fn seconds(ticks: u64, a_second: u64) -> f64 {
        ticks as f64 / a_second.max(1) as f64
    }
}
